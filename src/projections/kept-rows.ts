import type { RawEvent } from '../domain/event.ts';
import type { CheckpointMove } from '../eventstore/checkpoints.ts';
import type { Checkpoint } from '../eventstore/types.ts';
import type { Loaded } from './bulk.ts';
import type { ParkedEvent } from './parked.ts';
import type { AnyProjection, AnyRow } from './projection.ts';

/** Of one partition. Sixteen of them hold some 50 MB at most. */
const MOST_ROWS = 3_000;
const MOST_CHARACTERS = 1_000_000;

/**
 * Rows of a partition as its last batch left them, so that the next one need not load them. They are what the table holds as long
 * as the checkpoint is where that batch ended, since a partition's rows change only together with it; and who moves it
 * compares it with that. Rows with parked events are never among them.
 */
export type KeptRows<R extends AnyRow> = {
  /** The rows as of a checkpoint, by key; none where others are kept. */
  at(checkpoint: Checkpoint): ReadonlyMap<string, R>;
  /** Takes over what a batch has loaded and changed, once it is written. */
  moved(
    move: Pick<CheckpointMove, 'from' | 'to'>,
    loaded: Loaded<R>,
    changed: ReadonlyMap<string, R>,
    parked: readonly ParkedEvent[],
  ): void;
  clear(): void;
};

export function keptRows<R extends AnyRow>(): KeptRows<R> {
  const rows = new Map<string, R>();
  /** Characters of each, and of all. */
  const sizes = new Map<string, number>();
  let characters = 0;
  let standing: Checkpoint | undefined;

  function clear(): void {
    rows.clear();
    sizes.clear();
    characters = 0;
    standing = undefined;
  }
  function drop(key: string): void {
    characters -= sizes.get(key) ?? 0;
    sizes.delete(key);
    rows.delete(key);
  }
  /** As the newest of them. */
  function keep(key: string, row: R): void {
    drop(key);
    const size = charactersOf(row);
    rows.set(key, row);
    sizes.set(key, size);
    characters += size;
  }
  function at({ seq, eventId }: Checkpoint): ReadonlyMap<string, R> {
    if (standing?.seq !== seq || standing.eventId !== eventId) clear();
    return rows;
  }
  return {
    at,
    moved({ from, to }, loaded, changed, parked) {
      at(from);
      for (const [key, row] of loaded.rows) if (!changed.has(key)) keep(key, row);
      for (const [key, row] of changed) keep(key, row);
      for (const key of loaded.blocked) drop(key);
      for (const { rowKey } of parked) drop(rowKey);
      for (const key of rows.keys()) {
        if (rows.size <= MOST_ROWS && characters <= MOST_CHARACTERS) break;
        drop(key);
      }
      standing = to;
    },
    clear,
  };
}

/**
 * Whether nothing can be there yet, neither a row nor a parked event of it: the event is the first of the one stream that all
 * events of its row are in.
 */
export function beginsRow(
  { streamsOf }: Pick<AnyProjection, 'streamsOf'>,
  key: string,
  { streamId, version }: RawEvent,
): boolean {
  return streamsOf === undefined && version === 1 && streamId === key;
}

function charactersOf(row: AnyRow): number {
  let characters = 0;
  for (const value of Object.values(row)) if (typeof value === 'string') characters += value.length;
  return characters;
}
