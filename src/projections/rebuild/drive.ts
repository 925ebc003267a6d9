import { type Kysely, sql } from 'kysely';
import type { Database } from '../database.ts';
import { type AnyProjection, groupOf } from '../projection.ts';
import { activeRebuilds, type Rebuild } from './rebuilds.ts';
import { dropPrevious, swap } from './swap.ts';
import { indexLike } from './tables.ts';

type Named = Pick<AnyProjection, 'name' | 'version' | 'table'>;

export type DriveDeps = {
  readonly db: Kysely<Database>;
  /** Those of this code: others' rebuilds are left to others. */
  readonly projections: readonly Named[];
  /** Highest seq of the log, by partition. */
  readonly heads: () => Promise<readonly number[]>;
  /** One connection without time limits, as indexes take theirs. */
  readonly slow: Kysely<Database>;
  /** Ends the making of indexes, which takes long. */
  readonly signal: AbortSignal;
  readonly onSwapped: (projection: Named, rebuild: Rebuild) => void;
};

/** A generation so near the log's end is level with the live one in a moment. */
const NEAR_EVENTS = 500;
/** Any number that nothing else in the database locks; the second key is the rebuild's. */
const DRIVER_LOCK = 1_913_207_540;
/** The rate is that of about so many looks. */
const SMOOTHING = 0.2;

/**
 * Looks where each rebuild is, and does what is next: indexes once it is filled, the swap once it has caught up. Any
 * process may call it about once a second; one of them does it.
 */
export async function driveRebuilds(deps: DriveDeps): Promise<readonly Rebuild[]> {
  const active = await activeRebuilds(deps.db);
  for (const rebuild of active) {
    const projection = deps.projections.find(
      ({ name, version }) => name === rebuild.projection && version === rebuild.version,
    );
    if (projection) await alone(deps.slow, rebuild.id, () => drive(deps, projection, rebuild));
  }
  await dropOld(deps);
  return active;
}

async function drive(deps: DriveDeps, projection: Named, rebuild: Rebuild): Promise<void> {
  const { db } = deps;
  const [at, heads] = [await checkpointsOf(db, rebuild.group_name), await deps.heads()];
  await sample(db, rebuild, at, heads);
  if (rebuild.phase === 'filling') {
    if (rebuild.targets.every((target, partition) => (at.get(partition) ?? 0) >= target))
      await enter(db, rebuild, 'indexing');
  } else if (rebuild.phase === 'indexing') {
    await indexLike(deps, rebuild.table_name, await liveTable(db, projection));
    await enter(db, rebuild, 'catching up');
  } else if (isNear(at, heads, await checkpointsOf(db, groupOf(projection)))) {
    if ((await swap(db, projection, rebuild)) !== 'swapped') return;
    deps.onSwapped(projection, rebuild);
  }
}

/** Drops the old tables of rebuilds that were to do so, once nobody reads them: whoever looks. */
async function dropOld({ db, projections }: DriveDeps): Promise<void> {
  const { rows } = await sql<{ projection: string; version: number }>`
    SELECT projection, version FROM read_models m WHERE previous_table IS NOT NULL AND EXISTS (
      SELECT FROM rebuilds r WHERE r.projection = m.projection AND r.version = m.version
        AND r.generation = m.generation AND r.phase = 'swapped' AND r.drops_previous)`.execute(db);
  for (const { projection, version } of rows) {
    const known = projections.find((each) => each.name === projection && each.version === version);
    if (known) await dropPrevious(db, known);
  }
}

/** Near the live generation, that is, which may be behind itself: a rebuild must not wait for it. */
function isNear(
  at: ReadonlyMap<number, number>,
  heads: readonly number[],
  live: ReadonlyMap<number, number>,
): boolean {
  return heads.every(
    (head, partition) =>
      Math.min(head, live.get(partition) ?? head) - (at.get(partition) ?? 0) <= NEAR_EVENTS,
  );
}

/**
 * Marks read models that have caught up with the log for the first time: from now on they may be queried. They hold all
 * that there was when they were first looked at.
 * @param seen heads of the log at that time, by group; kept by the caller
 */
export async function markCaughtUp(
  { db, projections, heads }: Pick<DriveDeps, 'db' | 'projections' | 'heads'>,
  seen: Map<string, readonly number[]>,
): Promise<void> {
  const behind = await db
    .selectFrom('read_models')
    .select(['projection', 'version'])
    .where('caught_up_at', 'is', null)
    .execute();
  for (const model of behind) {
    if (!projections.some(({ name, version }) => name === model.projection && version === model.version))
      continue;
    const group = groupOf({ name: model.projection, version: model.version });
    const all = await heads();
    const wanted = seen.get(group) ?? all;
    seen.set(group, wanted);
    const at = await checkpointsOf(db, group);
    // The log may be shorter by now: it was recovered.
    const isThere = (head: number, partition: number) =>
      (at.get(partition) ?? 0) >= Math.min(head, wanted[partition] ?? head);
    if (!all.every(isThere)) continue;
    await db
      .updateTable('read_models')
      .set({ caught_up_at: sql<Date>`now()` })
      .where('projection', '=', model.projection)
      .where('version', '=', model.version)
      .execute();
  }
}

async function enter(db: Kysely<Database>, { id }: Rebuild, phase: Rebuild['phase']): Promise<void> {
  await db
    .updateTable('rebuilds')
    .set({ phase })
    .where('id', '=', id)
    .where('ended_at', 'is', null)
    .execute();
}

/** Where it is, for those who watch: how fast it goes, and how fast it comes nearer, which is less while more arrives. */
async function sample(
  db: Kysely<Database>,
  rebuild: Rebuild,
  at: ReadonlyMap<number, number>,
  heads: readonly number[],
): Promise<void> {
  const position = [...at.values()].reduce((sum, seq) => sum + seq, 0);
  const target = heads.reduce((sum, seq) => sum + seq, 0);
  // By the database's clock: those of processes differ, and another one may have looked last.
  const { rows } = await sql<{ seconds: number }>`
    SELECT extract(epoch FROM now() - sampled_at)::float8 AS seconds FROM rebuilds
    WHERE id = ${rebuild.id} AND ended_at IS NULL`.execute(db);
  const seconds = rows[0]?.seconds ?? 0;
  if (seconds < 0.5) return;
  const smooth = (before: number | null, now: number) =>
    before === null ? now : before + (now - before) * SMOOTHING;
  const progress = position - rebuild.position;
  const first = rebuild.target === 0;
  await db
    .updateTable('rebuilds')
    .set({
      ...{ position, target, sampled_at: sql<Date>`now()` },
      rate: smooth(rebuild.rate, progress / seconds),
      closing: smooth(rebuild.closing, (progress - (first ? 0 : target - rebuild.target)) / seconds),
    })
    .where('id', '=', rebuild.id)
    .execute();
}

async function checkpointsOf(db: Kysely<Database>, group: string): Promise<ReadonlyMap<number, number>> {
  const rows = await db
    .selectFrom('checkpoints')
    .select(['partition', 'seq'])
    .where('group_name', '=', group)
    .execute();
  return new Map(rows.map(({ partition, seq }) => [partition, seq]));
}

async function liveTable(db: Kysely<Database>, { name, version }: Named): Promise<string> {
  const row = await db
    .selectFrom('read_models')
    .select('table_name')
    .where('projection', '=', name)
    .where('version', '=', version)
    .executeTakeFirstOrThrow();
  return row.table_name;
}

/** Runs while no other process does the same for this rebuild; else not at all. */
async function alone(slow: Kysely<Database>, id: number, run: () => Promise<void>): Promise<void> {
  const key = sql`${DRIVER_LOCK}::int, ${id}::int`;
  await slow.connection().execute(async (connection) => {
    const { rows } = await sql<{ got: boolean }>`SELECT pg_try_advisory_lock(${key}) AS got`.execute(
      connection,
    );
    if (!rows[0]?.got) return;
    try {
      await run();
    } finally {
      await sql`SELECT pg_advisory_unlock(${key})`.execute(connection);
    }
  });
}
