import { type Kysely, sql, type Transaction } from 'kysely';
import type { RecordedEvent } from '../domain/events.ts';
import { type CheckpointMove, moveCheckpoint } from '../eventstore/checkpoints.ts';
import { type Loaded, upsertRows } from './bulk.ts';
import type { Database } from './database.ts';
import { type Concern, foldBatch, messageOf } from './fold.ts';
import type { ReadModel } from './generations.ts';
import { type ParkedEvent, parkEvents } from './parked.ts';
import type { AnyRow } from './projection.ts';

/**
 * Event by event, for a batch in which one row can't be written: the event that made it so is found and
 * parked, as one that can't be reduced. Slow, and rare.
 */
export async function writeSingly<R extends AnyRow>(
  db: Kysely<Database>,
  model: ReadModel<R>,
  move: CheckpointMove,
  batch: readonly Concern[],
  loaded: Loaded<R>,
  refuse: (parked: readonly ParkedEvent[]) => void,
): Promise<{ readonly applied: readonly RecordedEvent[]; readonly parked: readonly ParkedEvent[] }> {
  const rows = new Map(loaded.rows);
  const blocked = new Set(loaded.blocked);
  const applied: RecordedEvent[] = [];
  const left: ParkedEvent[] = [];
  await db.transaction().execute(async (trx) => {
    await moveCheckpoint(trx, move);
    for (const concern of batch) {
      const folded = foldBatch(model.projection, [concern], { rows, blocked });
      const error = await written(trx, () => upsertRows(trx, model, folded.rows));
      const parked =
        error === undefined
          ? folded.parked
          : [{ event: concern.raw, rowKey: concern.key, because: 'row' as const, error }];
      refuse(parked);
      await parkEvents(trx, move.group, parked);
      for (const { rowKey } of parked) blocked.add(rowKey);
      left.push(...parked);
      if (error !== undefined) continue;
      for (const [key, row] of folded.rows) rows.set(key, row);
      applied.push(...folded.applied);
    }
  });
  return { applied, parked: left };
}

/** Undefined: it is written. Else why it can't be; the transaction stands as if it had not been tried. */
async function written(trx: Transaction<Database>, write: () => Promise<void>): Promise<string | undefined> {
  await sql`SAVEPOINT event`.execute(trx);
  try {
    await write();
    await sql`RELEASE SAVEPOINT event`.execute(trx);
    return undefined;
  } catch (error) {
    if (!isUnwritable(error)) throw error;
    await sql`ROLLBACK TO SAVEPOINT event`.execute(trx);
    return messageOf(error);
  }
}

/** SQLSTATE classes 22 (a value that the type can't hold) and 23 (a constraint): no retry would help. */
export function isUnwritable(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    typeof error.code === 'string' &&
    /^2[23]...$/.test(error.code)
  );
}
