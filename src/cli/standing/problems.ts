import type { Standing } from '../../http/standing/routes.ts';

const ROLES = ['api', 'projectors', 'workers'] as const;

/** What is wrong, in words; lag alone is not: it says how much there is to do. */
export function problemsOf({ overview, groups, projections }: Standing): readonly string[] {
  const { redis, postgres, commits, processes } = overview;
  const problems: string[] = [];
  if (!redis.ok) problems.push(`Redis is away: ${redis.detail}`);
  if (!postgres.ok) problems.push(`Postgres is away: ${postgres.detail}`);
  if (redis.ok && commits.stopped) problems.push(`Commits are stopped: ${commits.because}`);
  for (const role of ROLES) {
    if (redis.ok && !processes[role]) problems.push(`No process runs the role ${role}.`);
  }
  for (const { id, members, owned, partitions } of groups) {
    if (members?.length && owned !== undefined && owned < partitions) {
      problems.push(`${partitions - owned} of ${partitions} partitions of ${id} are in nobody's hands.`);
    }
  }
  for (const { id, version, parked = 0, parkedRows = 0, current, rebuild } of projections) {
    if (current && parked > 0) {
      problems.push(`${id}: ${parked} events could not be applied, ${parkedRows} rows wait for them.`);
    }
    if (current && rebuild?.phase === 'failed') {
      problems.push(`${id}@${version}: the last rebuild failed: ${rebuild.problem}`);
    }
  }
  for (const { id, paused } of groups) {
    if (paused) problems.push(`${id} is paused since ${paused.since} by ${paused.by}: ${paused.reason}`);
  }
  return problems;
}
