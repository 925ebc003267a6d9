import { type Kysely, sql } from 'kysely';
import type { Place } from '../../domain/feed.ts';
import { type GroupPause, pausedGroups } from '../../eventstore/pauses.ts';
import type { Database } from '../../projections/database.ts';
import { lastRebuilds, type Rebuild } from '../../projections/rebuild/rebuilds.ts';

export type ReadModelRow = {
  readonly projection: string;
  readonly version: number;
  readonly generation: number;
  readonly table_name: string;
  readonly caught_up_at: Date | null;
};

export type PostgresStanding = {
  /** Where each group stands, by partition. */
  readonly checkpoints: ReadonlyMap<string, ReadonlyMap<number, Place>>;
  readonly parked: ReadonlyMap<string, { readonly events: number; readonly rows: number }>;
  readonly pauses: ReadonlyMap<string, GroupPause>;
  readonly readModels: readonly ReadModelRow[];
  readonly rebuilds: readonly Rebuild[];
};

/** Throws what Postgres throws. */
export async function readPostgres(db: Kysely<Database>): Promise<PostgresStanding> {
  const [rows, parked, pauses, readModels, rebuilds] = await Promise.all([
    db.selectFrom('checkpoints').select(['group_name', 'partition', 'epoch', 'seq']).execute(),
    sql<{ group_name: string; events: number; rows: number }>`
      SELECT group_name, count(*) AS events, count(DISTINCT row_key) AS rows FROM parked_events GROUP BY 1`.execute(
      db,
    ),
    pausedGroups(db),
    db
      .selectFrom('read_models')
      .select(['projection', 'version', 'generation', 'table_name', 'caught_up_at'])
      .orderBy('projection')
      .orderBy('version')
      .execute(),
    lastRebuilds(db),
  ]);
  const checkpoints = new Map<string, Map<number, Place>>();
  for (const { group_name, partition, epoch, seq } of rows) {
    const its = checkpoints.get(group_name) ?? new Map<number, Place>();
    checkpoints.set(group_name, its.set(partition, { epoch, seq }));
  }
  return {
    checkpoints,
    parked: new Map(parked.rows.map(({ group_name, ...counts }) => [group_name, counts])),
    pauses,
    readModels,
    rebuilds,
  };
}

/** When the event after a place was decided, as the ledger has it, ms since 1970. */
export async function timeInLedger(
  db: Kysely<Database>,
  partition: number,
  { seq }: Place,
): Promise<number | undefined> {
  const row = await db
    .selectFrom('ledger')
    .select('recorded_at')
    .where('partition', '=', partition)
    .where('seq', '=', seq + 1)
    .executeTakeFirst();
  return row?.recorded_at.getTime();
}
