import { setTimeout as sleep } from 'node:timers/promises';
import { type Kysely, sql, type Transaction } from 'kysely';
import type { Database } from '../database.ts';
import { type AnyProjection, groupOf } from '../projection.ts';
import { type Rebuild, setPrevious } from './rebuilds.ts';
import { dropTable } from './tables.ts';

type Named = Pick<AnyProjection, 'name' | 'version'>;

/** How long the live group may be held up for the new generation to come as far. */
const LEVEL_WITHIN_MS = 1_000;
/** How long queries may be held up behind one that reads the view, or the old table, for long: they queue behind. */
const VIEW_LOCK_MS = 40;

/**
 * Makes a generation live that is as far as the one before, in one transaction: the view, the row that names its table,
 * and the live group's checkpoints, whose owners are fenced. Queries see the one table or the other, and the new one
 * holds no less. `behind`: it does not come as far; `busy`: somebody reads the old one for long. Nothing was changed then.
 */
export async function swap(
  db: Kysely<Database>,
  projection: Named & { readonly table: string },
  rebuild: Rebuild,
): Promise<'swapped' | 'behind' | 'busy'> {
  try {
    return await db.transaction().execute(async (trx) => {
      const { rows } = await sql<{ table_name: string }>`
        SELECT m.table_name FROM read_models m, rebuilds r
        WHERE m.projection = ${projection.name} AND m.version = ${projection.version}
          AND r.id = ${rebuild.id} AND r.ended_at IS NULL FOR UPDATE`.execute(trx);
      const live = rows[0];
      if (!live) return 'behind';
      if (!(await level(trx, groupOf(projection), rebuild.group_name))) return 'behind';
      await sql`SELECT set_config('lock_timeout', ${String(VIEW_LOCK_MS)}, true)`.execute(trx);
      await sql`
        CREATE OR REPLACE VIEW ${sql.table(projection.table)} AS
        SELECT * FROM ${sql.table(rebuild.table_name)}`.execute(trx);
      await passOn(trx, projection, rebuild, live.table_name);
      return 'swapped';
    });
  } catch (error) {
    if (hasCode(error, '55P03')) return 'busy';
    throw error;
  }
}

/**
 * Holds the live group, also where it has never been, and waits for the new one. From then on neither moves.
 */
async function level(trx: Transaction<Database>, live: string, next: string): Promise<boolean> {
  const ofGroup = (group: string) => sql<{ partition: number; seq: number }>`
    SELECT partition, seq FROM checkpoints WHERE group_name = ${group} ORDER BY partition FOR UPDATE`;
  await sql`
    INSERT INTO checkpoints (group_name, partition, event_id)
    SELECT ${live}, partition, NULL FROM checkpoints WHERE group_name = ${next}
    ON CONFLICT (group_name, partition) DO NOTHING`.execute(trx);
  const { rows } = await ofGroup(live).execute(trx);
  const deadline = performance.now() + LEVEL_WITHIN_MS;
  for (;;) {
    const ahead = await sql<{ behind: boolean }>`
      SELECT count(*) > 0 AS behind
      FROM unnest(${rows.map((row) => row.partition)}::int[], ${rows.map((row) => row.seq)}::bigint[]) AS l(partition, seq)
      LEFT JOIN checkpoints n ON n.group_name = ${next} AND n.partition = l.partition
      WHERE n.seq IS NULL OR n.seq < l.seq`.execute(trx);
    if (!ahead.rows[0]?.behind) break;
    if (performance.now() > deadline) return false;
    await sleep(10);
  }
  await ofGroup(next).execute(trx);
  return true;
}

async function passOn(
  trx: Transaction<Database>,
  { name, version }: Named,
  { id, generation, group_name: next, table_name: table }: Rebuild,
  previous: string,
): Promise<void> {
  const live = groupOf({ name, version });
  await sql`
    INSERT INTO checkpoints (group_name, partition, epoch, seq, event_id, token)
    SELECT ${live}, partition, epoch, seq, event_id, nextval('fencing_tokens')
    FROM checkpoints WHERE group_name = ${next}
    ON CONFLICT (group_name, partition) DO UPDATE SET epoch = excluded.epoch, seq = excluded.seq,
      event_id = excluded.event_id, token = excluded.token, moved_at = now()`.execute(trx);
  await trx.deleteFrom('checkpoints').where('group_name', '=', next).execute();
  await trx.deleteFrom('parked_events').where('group_name', '=', live).execute();
  await trx.updateTable('parked_events').set({ group_name: live }).where('group_name', '=', next).execute();
  await sql`
    UPDATE read_models SET generation = ${generation}, table_name = ${table}, previous_table = ${previous}
    WHERE projection = ${name} AND version = ${version}`.execute(trx);
  await trx
    .updateTable('rebuilds')
    .set({ phase: 'swapped', ended_at: sql<Date>`now()` })
    .where('id', '=', id)
    .execute();
}

/** Drops what is not read any more. @returns false: somebody still reads it; it stays named, for the next time */
export async function dropPrevious(db: Kysely<Database>, projection: Named): Promise<boolean> {
  try {
    return await db.transaction().execute(async (trx) => {
      await sql`SELECT set_config('lock_timeout', ${String(VIEW_LOCK_MS)}, true)`.execute(trx);
      const row = await trx
        .selectFrom('read_models')
        .select('previous_table')
        .where('projection', '=', projection.name)
        .where('version', '=', projection.version)
        .forUpdate()
        .executeTakeFirst();
      if (!row?.previous_table) return true;
      await dropTable(trx, row.previous_table);
      await setPrevious(trx, projection, null);
      return true;
    });
  } catch (error) {
    if (hasCode(error, '55P03')) return false;
    throw error;
  }
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code;
}
