import type { Kysely } from 'kysely';
import { binaryArray, type ColumnType } from './binary-arrays.ts';
import { type CheckpointMove, moveCheckpoint } from './checkpoints.ts';
import { preparedQuery } from './prepared.ts';
import type { LedgerTables } from './tables.ts';

/** Moves a checkpoint that no rows travel with. Throws `FencedError`, as `moveCheckpoint` does. */
export type MoveAlone = (move: CheckpointMove) => Promise<void>;

/** How long a move waits for others. */
const GATHER_MS = 20;

/**
 * What is locked by somebody else is passed over, and waited for by itself: all others would wait with it (a rebuild that goes
 * live holds its group for up to a second), and two who lock several rows could wait for one another.
 */
const MOVE_ALL = `
  WITH free AS (
    SELECT given.* FROM unnest($1::text[], $2::int[], $3::int[], $4::bigint[], $5::text[], $6::bigint[],
      $7::bigint[], $8::text[]) AS given(group_name, partition, epoch, seq, event_id, token, from_seq, from_event_id)
    JOIN checkpoints AS c ON c.group_name = given.group_name AND c.partition = given.partition
      AND c.token = given.token AND c.seq = from_seq AND c.event_id IS NOT DISTINCT FROM from_event_id
    FOR UPDATE OF c SKIP LOCKED
  )
  UPDATE checkpoints AS c
  SET epoch = free.epoch, seq = free.seq, event_id = free.event_id, moved_at = now()
  FROM free WHERE c.group_name = free.group_name AND c.partition = free.partition
  RETURNING c.group_name || ' ' || c.partition AS moved`;

type Waiting = CheckpointMove & {
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
};

/**
 * Moves the checkpoints of many groups and partitions together: those of some milliseconds are one statement. Most groups have
 * nothing to do with most events, and a transaction for each of their moves was more than half of all that there were.
 */
export function gatherMoves(db: Kysely<LedgerTables>): MoveAlone {
  let waiting: Waiting[] = [];

  async function moveAll(): Promise<void> {
    const moves = waiting;
    waiting = [];
    const moved = await together(db, moves);
    for (const move of moves) {
      // Its owner may have been replaced, or somebody holds it: by itself it is told, or waits.
      if (moved.has(nameOf(move))) move.resolve();
      else alone(db, move).then(move.resolve, move.reject);
    }
  }
  return (move) =>
    new Promise((resolve, reject) => {
      waiting.push({ ...move, resolve, reject });
      if (waiting.length > 1) return;
      setTimeout(() => {
        const asked = waiting;
        moveAll().catch((error: unknown) => {
          for (const each of asked) each.reject(error);
        });
      }, GATHER_MS);
    });
}

async function together(
  db: Kysely<LedgerTables>,
  moves: readonly CheckpointMove[],
): Promise<ReadonlySet<string>> {
  const column = (type: ColumnType, value: (move: CheckpointMove) => unknown) =>
    binaryArray(type, moves.map(value));
  const { rows } = await db.executeQuery<{ moved: string }>(
    preparedQuery(MOVE_ALL, [
      column('text', ({ group }) => group),
      column('int', ({ partition }) => partition),
      column('int', ({ to }) => to.epoch),
      column('bigint', ({ to }) => to.seq),
      column('text', ({ to }) => to.eventId),
      column('bigint', ({ token }) => token),
      column('bigint', ({ from }) => from.seq),
      column('text', ({ from }) => from.eventId),
    ]),
  );
  return new Set(rows.map(({ moved }) => moved));
}

function alone(db: Kysely<LedgerTables>, move: CheckpointMove): Promise<void> {
  return db.transaction().execute((trx) => moveCheckpoint(trx, move));
}

function nameOf({ group, partition }: CheckpointMove): string {
  return `${group} ${partition}`;
}
