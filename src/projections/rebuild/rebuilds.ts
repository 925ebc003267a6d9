import { type Kysely, type Selectable, sql, type Transaction } from 'kysely';
import { ledgerHeads } from '../../eventstore/checkpoints.ts';
import type { Database } from '../database.ts';
import type { RebuildsTable } from '../generations.ts';
import type { AnyProjection } from '../projection.ts';
import { createTableLike, dropTable, endIndexing } from './tables.ts';

export type Rebuild = Selectable<RebuildsTable>;
type Named = Pick<AnyProjection, 'name' | 'version'>;

/** It can't be begun, or ended, as things are; the message says why, and what to do. Nothing was changed. */
export class RebuildRefusedError extends Error {
  override readonly name = 'RebuildRefusedError';
}

export type RebuildOptions = {
  /** Park what can't be applied, as live batches do. Default: it ends the rebuild. */
  readonly parks?: boolean;
  /** Drop the old table once it is not read any more. Default: the next rebuild does. */
  readonly dropsPrevious?: boolean;
  readonly partitions: number;
  /** Id of the record of it: asked for twice under the same one, it is begun once. */
  readonly operation?: string;
  readonly by: string;
  readonly reason: string;
};

/**
 * Begins to fill the next generation of a read model: projectors find it, within a second or so. Throws
 * `RebuildRefusedError` where one is under way.
 */
export async function beginRebuild(
  db: Kysely<Database>,
  projection: Named,
  options: RebuildOptions,
): Promise<Rebuild> {
  const { name, version } = projection;
  const heads = await ledgerHeads(db);
  return db.transaction().execute(async (trx) => {
    const live = await trx
      .selectFrom('read_models')
      .selectAll()
      .where('projection', '=', name)
      .where('version', '=', version)
      .forUpdate()
      .executeTakeFirst();
    const { operation = null } = options;
    const before =
      operation === null
        ? undefined
        : await trx.selectFrom('rebuilds').selectAll().where('operation', '=', operation).executeTakeFirst();
    if (before) return before;
    if (!live)
      throw new RebuildRefusedError(
        `There is no read model ${name}, version ${version}: run millrace migrate.`,
      );
    const underWay = (await activeRebuilds(trx, name)).find((each) => each.version === version);
    if (underWay)
      throw new RebuildRefusedError(
        `A rebuild of ${name} is under way since ${underWay.begun_at.toISOString()}: millrace projections cancel ${name} ends it.`,
      );
    if (live.previous_table !== null) {
      await dropTable(trx, live.previous_table);
      await setPrevious(trx, projection, null);
    }
    const last = await trx
      .selectFrom('rebuilds')
      .select((eb) => eb.fn.max('generation').as('generation'))
      .where('projection', '=', name)
      .where('version', '=', version)
      .executeTakeFirst();
    const generation = Math.max(live.generation, last?.generation ?? 0) + 1;
    const table = `${live.table_name.replace(/_g\d+$/, '')}_g${generation}`;
    await createTableLike(trx, table, live.table_name);
    const group = `rebuild:${name}@${version}.${generation}`;
    const partitions = Array.from({ length: options.partitions }, (_, partition) => partition);
    // Here and nowhere else: who comes late finds no checkpoint, and can't write into a table that is live by then.
    await trx
      .insertInto('checkpoints')
      .values(partitions.map((partition) => ({ group_name: group, partition, event_id: null })))
      .execute();
    return trx
      .insertInto('rebuilds')
      .values({
        ...{ projection: name, version, generation, group_name: group, table_name: table, phase: 'filling' },
        ...{ parks: options.parks ?? false, drops_previous: options.dropsPrevious ?? false },
        targets: partitions.map((partition) => heads.get(partition) ?? 0),
        ...{ operation, asked_by: options.by, asked_for: options.reason },
      })
      .returningAll()
      .executeTakeFirstOrThrow();
  });
}

/** Those that are under way. */
export async function activeRebuilds(db: Kysely<Database>, name?: string): Promise<Rebuild[]> {
  let query = db.selectFrom('rebuilds').selectAll().where('ended_at', 'is', null).orderBy('id');
  if (name !== undefined) query = query.where('projection', '=', name);
  return query.execute();
}

/** The newest one of each projection, under way or not. */
export async function lastRebuilds(db: Kysely<Database>): Promise<Rebuild[]> {
  return db
    .selectFrom('rebuilds')
    .distinctOn(['projection', 'version'])
    .selectAll()
    .orderBy('projection')
    .orderBy('version')
    .orderBy('id', 'desc')
    .execute();
}

/** Ends a rebuild that is under way, and leaves nothing of it. @returns false: it was over already */
export async function giveUpRebuild(
  db: Kysely<Database>,
  id: number,
  phase: 'cancelled' | 'failed',
  problem?: string,
): Promise<boolean> {
  return db.transaction().execute(async (trx) => {
    const ended = await trx
      .updateTable('rebuilds')
      .set({ phase, problem: problem ?? null, ended_at: sql<Date>`now()` })
      .where('id', '=', id)
      .where('ended_at', 'is', null)
      .returning(['group_name', 'table_name'])
      .executeTakeFirst();
    if (!ended) return false;
    // That may take hours, and both who writes and the drop would wait for it.
    await endIndexing(trx, ended.table_name);
    await forgetGroup(trx, ended.group_name);
    await dropTable(trx, ended.table_name);
    return true;
  });
}

/** Ends the rebuild that has this group. @returns false: the group is none of a rebuild that is under way */
export async function giveUpRebuildOf(
  db: Kysely<Database>,
  group: string,
  problem: string,
): Promise<boolean> {
  const rebuild = (await activeRebuilds(db)).find(({ group_name }) => group_name === group);
  return rebuild !== undefined && giveUpRebuild(db, rebuild.id, 'failed', problem);
}

/** Whoever writes for the group is fenced from then on. */
async function forgetGroup(trx: Transaction<Database>, group: string): Promise<void> {
  await trx.deleteFrom('checkpoints').where('group_name', '=', group).execute();
  await trx.deleteFrom('parked_events').where('group_name', '=', group).execute();
}

export async function setPrevious(
  db: Kysely<Database>,
  { name, version }: Named,
  table: string | null,
): Promise<void> {
  await db
    .updateTable('read_models')
    .set({ previous_table: table })
    .where('projection', '=', name)
    .where('version', '=', version)
    .execute();
}
