import { type Kysely, type RawBuilder, sql, type Transaction } from 'kysely';
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

export type CheckpointMove = {
  readonly group: string;
  readonly partition: number;
  readonly from: Checkpoint;
  readonly to: Checkpoint;
  readonly token: number;
};

/**
 * The statement that moves a checkpoint, for rows that travel in the same one: it yields a row when it has
 * moved it, and none when the token or `from` is stale.
 */
export function checkpointMove(move: CheckpointMove): RawBuilder<{ seq: number }> {
  const { group, partition, from, to, token } = move;
  return sql`
    UPDATE checkpoints
    SET epoch = ${to.epoch}, seq = ${to.seq}, event_id = ${to.eventId}, token = ${token}, moved_at = now()
    WHERE group_name = ${group} AND partition = ${partition} AND token <= ${token}
      AND seq = ${from.seq} AND event_id IS NOT DISTINCT FROM ${from.eventId}
    RETURNING seq`;
}

/** Throws `FencedError` where `checkpointMove` has yielded no row. */
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
  assertMoved(move, (await checkpointMove(move).execute(trx)).rows);
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
