import { type Kysely, sql, type Transaction } from 'kysely';
import type { EventId } from '../domain/ids.ts';
import type { LedgerTables } from './tables.ts';
import { type Checkpoint, FencedError } from './types.ts';

/** Name of the group that copies the log into Postgres. Stored: an identifier for life. */
export const LEDGER_GROUP = 'ledger';

/** Where a group stands in a partition; undefined: it has never been there. */
export async function readCheckpoint(
  db: Kysely<LedgerTables>,
  group: string,
  partition: number,
): Promise<Checkpoint | undefined> {
  const row = await db
    .selectFrom('checkpoints')
    .select(['epoch', 'seq', 'event_id'])
    .where('group_name', '=', group)
    .where('partition', '=', partition)
    .executeTakeFirst();
  return row && { epoch: row.epoch, seq: row.seq, eventId: row.event_id as EventId | null };
}

/**
 * Takes a group's partition over: raises the token in its row, so that older owners write nothing more.
 * Throws `FencedError` when a newer owner has been here.
 * @param token from the sequence `fencing_tokens`
 */
export async function openCheckpoint(
  db: Kysely<LedgerTables>,
  group: string,
  partition: number,
  token: number,
): Promise<Checkpoint> {
  const row = await db
    .insertInto('checkpoints')
    .values({ group_name: group, partition, token })
    .onConflict((conflict) =>
      conflict
        .columns(['group_name', 'partition'])
        .doUpdateSet({ token })
        .where('checkpoints.token', '<=', token),
    )
    .returning(['epoch', 'seq', 'event_id'])
    .executeTakeFirst();
  if (!row) throw new FencedError(`${group} of partition ${partition} has a newer owner than token ${token}`);
  return { epoch: row.epoch, seq: row.seq, eventId: row.event_id as EventId | null };
}

/**
 * Moves a checkpoint in the transaction of the rows that it stands for. Throws `FencedError` when the token is
 * stale, or the checkpoint is not where the batch began: then the transaction must be rolled back.
 */
export async function moveCheckpoint(
  trx: Transaction<LedgerTables>,
  move: {
    readonly group: string;
    readonly partition: number;
    readonly from: Checkpoint;
    readonly to: Checkpoint;
    readonly token: number;
  },
): Promise<void> {
  const { group, partition, from, to, token } = move;
  const { numUpdatedRows } = await trx
    .updateTable('checkpoints')
    .set({ epoch: to.epoch, seq: to.seq, event_id: to.eventId, token, moved_at: sql`now()` })
    .where('group_name', '=', group)
    .where('partition', '=', partition)
    .where('token', '<=', token)
    .where('seq', '=', from.seq)
    .where(sql<boolean>`event_id IS NOT DISTINCT FROM ${from.eventId}`)
    .executeTakeFirst();
  if (numUpdatedRows !== 1n) {
    throw new FencedError(`${group} of partition ${partition}: token ${token} or seq ${from.seq} is stale`);
  }
}

/** Seq up to which the ledger holds everything, by partition; a partition without events is left out. */
export async function ledgerHeads(db: Kysely<LedgerTables>): Promise<Map<number, number>> {
  const rows = await db
    .selectFrom('checkpoints')
    .select(['partition', 'seq'])
    .where('group_name', '=', LEDGER_GROUP)
    .execute();
  return new Map(rows.map(({ partition, seq }) => [partition, seq]));
}
