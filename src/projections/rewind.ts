import { type Kysely, sql } from 'kysely';
import type { Database } from './database.ts';
import { liveReadModel, ofPartition } from './generations.ts';
import type { AnyProjection, AnyRow } from './projection.ts';

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
  await db.transaction().execute(async (trx) => {
    const { table, group } = await liveReadModel(trx, projection);
    await sql`DELETE FROM ${sql.table(table)} WHERE ${ofPartition(partition)}`.execute(trx);
    await sql`
      DELETE FROM parked_events WHERE group_name = ${group} AND partition = ${partition}`.execute(trx);
    await sql`
      UPDATE checkpoints SET epoch = 0, seq = 0, event_id = NULL
      WHERE group_name = ${group} AND partition = ${partition}`.execute(trx);
  });
}
