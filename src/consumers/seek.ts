import { type Kysely, sql } from 'kysely';
import { formatPosition, type Position } from '../domain/position.ts';
import { readLedger } from '../eventstore/ledger-read.ts';
import { firstSeqSince } from '../eventstore/ledger-times.ts';
import type { OpenEventStore } from '../eventstore/store.ts';
import type { LedgerTables } from '../eventstore/tables.ts';
import type { Checkpoint } from '../eventstore/types.ts';
import { ledgerHoldsWithin } from './ledger-holds.ts';
import { cursorText, readCursor } from './reactor-cursor.ts';

/** Where a reactor's cursors are to be: each at the last event that counts as read. */
export type SeekTarget =
  | { readonly kind: 'beginning' }
  | { readonly kind: 'end' }
  /** Of each partition, what was decided from then on is read again. */
  | { readonly kind: 'time'; readonly since: Date }
  /** In the partitions of these positions alone, from the event after each. */
  | { readonly kind: 'positions'; readonly positions: readonly Position[] };

/** A cursor of one partition, as it is and as it is to be. */
export type CursorMove = { readonly partition: number; readonly from: Checkpoint; readonly to: Checkpoint };

/** It can't be moved there; `message` says why. */
export class SeekRefusedError extends Error {
  override readonly name = 'SeekRefusedError';
}

export type SeekDeps = {
  readonly db: Kysely<LedgerTables>;
  readonly store: Pick<OpenEventStore, 'archives' | 'commit' | 'heads' | 'keys' | 'reader'>;
};

const LEDGER_WITHIN_MS = 5_000;
/** Its owner may not have heard of the pause yet, and move it in between. */
const ATTEMPTS = 10;

/**
 * What a seek would do, with the cursors that are there already (see `isMove`): by the time of the seek they may not be any
 * more. Throws `SeekRefusedError`.
 */
export async function planSeek(deps: SeekDeps, reactor: string, target: SeekTarget): Promise<CursorMove[]> {
  const heads = await deps.store.heads();
  if (target.kind === 'positions') assertOneEach(target.positions, heads.length);
  await ledgerHoldsWithin(deps.db, heads, LEDGER_WITHIN_MS);
  const moves = await Promise.all(
    heads.map(async (head, partition) => {
      const to = await targetIn(deps, target, partition, head);
      return to && { partition, from: await cursorOf(deps, reactor, partition), to };
    }),
  );
  return moves.flatMap((move) => move ?? []);
}

function assertOneEach(positions: readonly Position[], partitions: number): void {
  const named = new Set(positions.map(({ partition }) => partition));
  if (named.size < positions.length) throw new SeekRefusedError('Name one position of a partition.');
  const unknown = positions.find(({ partition }) => partition >= partitions);
  if (unknown) throw new SeekRefusedError(`There is no partition ${unknown.partition}.`);
}

async function targetIn(
  deps: SeekDeps,
  target: SeekTarget,
  partition: number,
  head: number,
): Promise<Checkpoint | undefined> {
  switch (target.kind) {
    case 'beginning':
      return checkpointAt(deps, partition, 0);
    case 'end':
      return checkpointAt(deps, partition, head);
    case 'time': {
      const first = await firstSeqSince(deps.db, deps.store.archives, partition, target.since);
      return checkpointAt(deps, partition, first === undefined ? head : first - 1);
    }
    case 'positions': {
      const position = target.positions.find((each) => each.partition === partition);
      return position && checkpointOf(deps, position, head);
    }
  }
}

async function checkpointOf(deps: SeekDeps, position: Position, head: number): Promise<Checkpoint> {
  const { partition, epoch, seq } = position;
  const name = formatPosition(position);
  if (seq > head || seq === 0) throw new SeekRefusedError(`There is no event at ${name}.`);
  const checkpoint = await checkpointAt(deps, partition, seq);
  if (checkpoint.epoch === epoch) return checkpoint;
  throw new SeekRefusedError(
    `${name} was lost with Redis: at seq ${seq} there is an event of epoch ${checkpoint.epoch}.`,
  );
}

async function checkpointAt({ db, store }: SeekDeps, partition: number, seq: number): Promise<Checkpoint> {
  if (seq === 0) return { epoch: 0, seq: 0, eventId: null };
  const range = { partition, after: seq - 1, upTo: seq, limit: 1 };
  const [event] = await readLedger(db, range, store.archives);
  if (!event) throw new SeekRefusedError(`The ledger has no event ${seq} in partition ${partition}.`);
  return { epoch: event.epoch, seq, eventId: event.id };
}

async function cursorOf({ store }: SeekDeps, reactor: string, partition: number): Promise<Checkpoint> {
  const key = store.keys[partition]?.cursor(reactor);
  return readCursor((key && (await store.reader.redis.get(key))) ?? '');
}

const isSame = (a: Checkpoint, b: Checkpoint) => cursorText(a) === cursorText(b);

/** Whether the cursor is not there already. */
export function isMove({ from, to }: CursorMove): boolean {
  return !isSame(from, to);
}

/** What taking back the last seek that was not taken back would do. Throws `SeekRefusedError`. */
export async function planUndo(
  deps: SeekDeps,
  reactor: string,
): Promise<{ readonly undoes: string; readonly moves: CursorMove[] }> {
  const { rows } = await sql<{ operation: string; partition: number; from_cursor: string }>`
    SELECT operation, partition, from_cursor FROM cursor_moves WHERE operation = (
      SELECT operation FROM cursor_moves AS m
      WHERE group_name = ${reactor} AND undoes IS NULL
        AND NOT EXISTS (SELECT FROM cursor_moves AS u WHERE u.undoes = m.operation)
      ORDER BY id DESC LIMIT 1
    ) ORDER BY partition`.execute(deps.db);
  const [first] = rows;
  if (!first) throw new SeekRefusedError(`No seek of ${reactor} is there to be undone.`);
  const moves = await Promise.all(
    rows.map(async ({ partition, from_cursor }) => {
      const to = readCursor(from_cursor);
      if (to.seq > 0 && !isSame(to, await checkpointAt(deps, partition, to.seq))) {
        throw new SeekRefusedError(
          `What ${reactor} had read of partition ${partition} was lost with Redis: seek to a time.`,
        );
      }
      return { partition, from: await cursorOf(deps, reactor, partition), to };
    }),
  );
  return { undoes: first.operation, moves };
}

/**
 * Moves cursors: each in a commit, so that neither its owner nor a Redis that is not to be trusted is written over, and
 * each written down before, so that it can be undone. Cut off, it has moved the first of them.
 *
 * Throws `SeekRefusedError` where the reactor goes on meanwhile, `StoreUnavailableError`.
 * @returns how they were moved: from where each was at that moment, but for those that were there already
 */
export async function seek(
  deps: SeekDeps,
  asked: {
    readonly reactor: string;
    /** Id of its record. */
    readonly operation: string;
    readonly by: string;
    readonly reason: string;
    readonly undoes?: string;
  },
  moves: readonly CursorMove[],
): Promise<CursorMove[]> {
  return deps.db.connection().execute(async (db) => {
    // Of two at once, one after the other: else the partitions would be left by halves.
    const lock = sql`hashtextextended(${`seek ${asked.reactor}`}, 0)`;
    await sql`SELECT pg_advisory_lock(${lock})`.execute(db);
    try {
      const done: CursorMove[] = [];
      for (const move of moves) done.push(await moveCursor({ ...deps, db }, asked, move));
      return done.filter(isMove);
    } finally {
      await sql`SELECT pg_advisory_unlock(${lock})`.execute(db);
    }
  });
}

async function moveCursor(
  deps: SeekDeps,
  asked: Parameters<typeof seek>[1],
  { partition, to }: CursorMove,
): Promise<CursorMove> {
  const { reactor, operation, by, reason, undoes = null } = asked;
  for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
    const from = await cursorOf(deps, reactor, partition);
    if (isSame(from, to)) return { partition, from, to };
    await sql`
      INSERT INTO cursor_moves (operation, group_name, partition, from_cursor, to_cursor, moved_by, moved_for, undoes)
      VALUES (${operation}, ${reactor}, ${partition}, ${cursorText(from)}, ${cursorText(to)}, ${by}, ${reason}, ${undoes})
      ON CONFLICT (operation, partition) DO UPDATE SET from_cursor = excluded.from_cursor`.execute(deps.db);
    const outcome = await deps.store.commit({
      partition,
      appends: [],
      cursor: { reactor, from: cursorText(from), to: cursorText(to) },
      memory: 'completion',
    });
    if (outcome.kind === 'lease_lost') continue;
    if (outcome.kind !== 'committed') throw new Error(`a cursor was to be moved, and it was ${outcome.kind}`);
    const { epoch, seq } = outcome.position;
    await sql`
      UPDATE cursor_moves SET head_epoch = ${epoch}, head_seq = ${seq}
      WHERE operation = ${operation} AND partition = ${partition}`.execute(deps.db);
    return { partition, from, to };
  }
  throw new SeekRefusedError(`${reactor} goes on in partition ${partition}: is it paused?`);
}
