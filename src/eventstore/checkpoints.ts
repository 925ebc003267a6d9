import type { Kysely, Transaction } from 'kysely';
import type { EventId } from '../domain/ids.ts';
import { preparedQuery } from './prepared.ts';
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

export type CheckpointMove = {
  readonly group: string;
  readonly partition: number;
  readonly from: Checkpoint;
  readonly to: Checkpoint;
  readonly token: number;
};

/**
 * Moves a checkpoint, on its own or together with rows that travel in the same statement: it yields a row when it has
 * moved it, and none when the token or `from` is stale. Its parameters are those of `moveValues`.
 *
 * The token must be the very one that `openCheckpoint` has left there: where a lower one is, Postgres was set back to before
 * that, and what the owner has learnt since, such as the table to write to, may not be so any more.
 */
export const MOVE_CHECKPOINT = `
  UPDATE checkpoints SET epoch = $3, seq = $4, event_id = $5, moved_at = now()
  WHERE group_name = $1 AND partition = $2 AND token = $6
    AND seq = $7 AND event_id IS NOT DISTINCT FROM $8
  RETURNING seq`;

/** $1 to $8. */
export function moveValues({ group, partition, from, to, token }: CheckpointMove): readonly unknown[] {
  return [group, partition, to.epoch, to.seq, to.eventId, token, from.seq, from.eventId];
}

/** Throws `FencedError` where `MOVE_CHECKPOINT` has yielded no row. */
export function assertMoved(move: CheckpointMove, rows: readonly unknown[]): void {
  if (rows.length === 1) return;
  const { group, partition, token, from } = move;
  throw new FencedError(`${group} of partition ${partition}: token ${token} or seq ${from.seq} is stale`);
}

/**
 * Moves a checkpoint in the transaction of the rows that it stands for. Throws `FencedError` when the token is
 * stale, or the checkpoint is not where the batch began: then the transaction must be rolled back.
 */
export async function moveCheckpoint(trx: Transaction<LedgerTables>, move: CheckpointMove): Promise<void> {
  const { rows } = await trx.executeQuery(preparedQuery(MOVE_CHECKPOINT, moveValues(move)));
  assertMoved(move, rows);
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
