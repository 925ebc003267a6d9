import { type Kysely, sql } from 'kysely';
import type { Database } from './database.ts';
import { type AnyProjection, type AnyRow, groupOf } from './projection.ts';

/**
 * Takes a partition's rows and parked events of a projection away, and its checkpoint back to the beginning: the
 * runner makes them anew from the ledger. For rows that hold what is lost; queries find them incomplete meanwhile.
 * Its owners must have been fenced.
 */
export async function rewind<R extends AnyRow>(
  db: Kysely<Database>,
  projection: AnyProjection<R>,
  partition: number,
): Promise<void> {
  const group = groupOf(projection);
  const ofPartition = `${partition.toString(36).padStart(2, '0')}%`;
  await db.transaction().execute(async (trx) => {
    await sql`
      DELETE FROM ${sql.table(projection.table)} WHERE split_part(id, '-', 2) LIKE ${ofPartition}`.execute(
      trx,
    );
    await sql`
      DELETE FROM parked_events WHERE group_name = ${group} AND partition = ${partition}`.execute(trx);
    await sql`
      UPDATE checkpoints SET epoch = 0, seq = 0, event_id = NULL
      WHERE group_name = ${group} AND partition = ${partition}`.execute(trx);
  });
}
