import type { Kysely } from 'kysely';
import type { LedgerTables } from '../eventstore/tables.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Standing } from './reader.ts';

const EVERY_MS = 2_000;

const keyOf = (group: string, partition: number) => `${group} ${partition}`;

/**
 * Compares every other second where this process's readers stand with where Postgres says that they do, and has those begin
 * anew that have less there, or an older token: Postgres was set back, by a restore or a failover. Where events go on arriving the next
 * batch finds that out; in a partition in which nothing happens what Postgres lost would be in Redis alone for as long, and
 * acknowledged with `ledger` all the same.
 */
export function watchSetBack(deps: {
  readonly db: Kysely<LedgerTables>;
  /** Names of those to compare. Checkpoints of rebuilds end with them. */
  readonly groups: ReadonlySet<string>;
  readonly standings: ReadonlySet<Standing>;
  readonly logger: Logger;
}): { stop(): void } {
  /** Those whose checkpoints are in Postgres. A reactor's is a cursor in Redis. */
  const inPostgres = new Set<string>();
  let busy = false;

  async function look(): Promise<void> {
    // Before Postgres is asked: whoever moves on meanwhile has more there, never less.
    const before = Array.from(deps.standings, (standing) => ({ standing, seq: standing.checkpoint.seq }));
    if (deps.groups.size === 0) return;
    const rows = await deps.db
      .selectFrom('checkpoints')
      .select(['group_name', 'partition', 'seq', 'token'])
      .where('group_name', 'in', [...deps.groups])
      .execute();
    const there = new Map(rows.map((row) => [keyOf(row.group_name, row.partition), row]));
    for (const key of there.keys()) inPostgres.add(key);
    for (const { standing, seq } of before) {
      const { group, partition, token } = standing;
      const key = keyOf(group, partition);
      const row = there.get(key);
      if (!inPostgres.has(key) || (row && row.seq >= seq && row.token >= token)) continue;
      standing.isSetBack = true;
      const less = { group, partition, read: seq, recorded: row?.seq };
      deps.logger.warn(less, 'Postgres has not what it had: the group begins anew where it stands there');
    }
  }

  const timer = setInterval(() => {
    if (busy) return;
    busy = true;
    look()
      .catch((err: unknown) => deps.logger.debug({ err }, 'checkpoints could not be compared'))
      .finally(() => {
        busy = false;
      });
  }, EVERY_MS);
  return { stop: () => clearInterval(timer) };
}
