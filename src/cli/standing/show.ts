import { setTimeout as sleep } from 'node:timers/promises';
import { readQueues } from '../../app/queues.ts';
import { readStanding } from '../../app/standing/read.ts';
import { JobQueue } from '../../domain/jobs/events.ts';
import { connectReader } from '../../eventstore/connections.ts';
import { createKeys } from '../../eventstore/partitions.ts';
import { StoreUnavailableError } from '../../eventstore/types.ts';
import { problemOf } from '../../http/failures.ts';
import type { QueueView } from '../../http/queues.ts';
import type { Standing } from '../../http/standing/routes.ts';
import { countScheduled } from '../../projections/jobs/queries.ts';
import { messageOf } from '../doctor/finding.ts';
import { type WriteSide, withInstallation, withPostgres } from '../installation.ts';
import { createTable, drawFacts, style } from '../output/table.ts';
import { groupColumns, projectionColumns, queueColumns } from './columns.ts';
import { problemsOf } from './problems.ts';

const AGAIN_MS = 2_000;
const READY_WITHIN_MS = 1_000;

type Read = { readonly standing: Standing; readonly queues: readonly QueueView[] };

/** Runs with a way to read where everything stands; while a server is away, with what the other one says. */
async function withStanding<T>(use: (read: () => Promise<Read>) => Promise<T>): Promise<T> {
  try {
    return await withInstallation((side, { config }) => use(() => readAll(side, config.KEY_PREFIX)));
  } catch (error) {
    const isAway =
      error instanceof StoreUnavailableError || problemOf(error)?.code === 'read_store_unavailable';
    if (!isAway) throw error;
    return withWhatIsThere(messageOf(error), use);
  }
}

/** Looks only: what an event store needs to be opened is not there. */
async function withWhatIsThere<T>(
  problem: string,
  use: (read: () => Promise<Read>) => Promise<T>,
): Promise<T> {
  return withPostgres(async (db, config) => {
    const { KEY_PREFIX: prefix, REDIS_URL: url } = config;
    const connection = connectReader({ url, name: 'status' });
    try {
      const isThere = await connection.whenReady(READY_WITHIN_MS).then(
        () => true,
        () => false,
      );
      const redis = isThere ? connection.redis : undefined;
      const keys = createKeys(prefix, config.PARTITIONS);
      const deps = { db, keys, prefix, redis, now: () => new Date(), fencedBecause: () => problem };
      return await use(async () => ({ standing: await readStanding(deps), queues: [] }));
    } finally {
      connection.close();
    }
  });
}

async function readAll(side: WriteSide, prefix: string): Promise<Read> {
  const { db, store } = side;
  const { keys, clock, guard } = store;
  const [standing, queues] = await Promise.all([
    readStanding({
      ...{ db, keys, prefix, redis: store.reader.redis, now: clock.now },
      ...{ fencedBecause: store.fencedBecause, memoryUsed: guard.usedShare },
    }),
    readQueues(side, JobQueue.enum, countScheduled(db)).catch(() => []),
  ]);
  return { standing, queues };
}

/** `millrace status` */
export function showStatus(options: { readonly watch?: boolean; readonly json?: boolean }): Promise<void> {
  return withStanding(async (read) => {
    for (;;) {
      const now = await read();
      const problems = problemsOf(now.standing);
      if (options.json) console.log(JSON.stringify({ ...now.standing, queues: now.queues, problems }));
      else draw(now, problems, options.watch ?? false);
      process.exitCode = problems.length === 0 ? 0 : 1;
      if (!options.watch) return;
      await sleep(AGAIN_MS);
    }
  });
}

function draw({ standing, queues }: Read, problems: readonly string[], again: boolean): void {
  const out = process.stdout;
  const { overview, groups } = standing;
  const { redis, postgres, commits, memoryUsed, events, inLog, processes } = overview;
  if (again && out.isTTY) out.write('\x1b[2J\x1b[H');
  drawFacts(
    [
      ['redis', redis.ok ? 'answers' : (redis.detail ?? 'away'), redis.ok ? undefined : 'red'],
      ['postgres', postgres.ok ? 'answers' : (postgres.detail ?? 'away'), postgres.ok ? undefined : 'red'],
      [
        'commits',
        commits.stopped ? `STOPPED: ${commits.because}` : 'go on',
        commits.stopped ? 'red' : undefined,
      ],
      ['memory', memoryUsed === undefined ? undefined : `${(memoryUsed * 100).toFixed(1)} % of the limit`],
      ['events', events === undefined ? undefined : `${events}, of these ${inLog} in Redis`],
      ['partitions', String(overview.partitions)],
      [
        'processes',
        Object.entries(processes)
          .map(([role, count]) => `${count} ${role}`)
          .join(', ') || 'unknown',
      ],
    ],
    out,
  );
  out.write('\n');
  createTable(groupColumns, out).draw(groups);
  if (queues.length > 0) {
    out.write('\n');
    createTable(queueColumns(Date.now()), out).draw(queues);
  }
  out.write('\n');
  if (problems.length === 0) out.write('Nothing is wrong that can be seen from here.\n');
  for (const problem of problems) out.write(`${style(out, 'red', 'WRONG')}  ${problem}\n`);
}

/** `millrace groups ls` */
export function listGroups({ json }: { readonly json?: boolean }): Promise<void> {
  return withStanding(async (read) => {
    const { groups: items, overview } = (await read()).standing;
    if (json) console.log(JSON.stringify({ items }));
    else createTable(groupColumns, process.stdout).draw(items);
    sayWhatIsAway(overview);
  });
}

/** `millrace projections ls` */
export function listProjections({ json }: { readonly json?: boolean }): Promise<void> {
  return withStanding(async (read) => {
    const { projections: items, overview } = (await read()).standing;
    // Which there are is written there alone: an empty list would be a lie.
    if (!overview.postgres.ok)
      throw new StoreUnavailableError(`Postgres can’t be read: ${overview.postgres.detail}`);
    if (json) console.log(JSON.stringify({ items }));
    else createTable(projectionColumns, process.stdout).draw(items);
    sayWhatIsAway(overview);
  });
}

function sayWhatIsAway({ redis, postgres }: Standing['overview']): void {
  if (!redis.ok)
    console.error(`Redis can’t be read, so how far anything is behind is unknown: ${redis.detail}`);
  if (!postgres.ok) console.error(`Postgres can’t be read: ${postgres.detail}`);
}
