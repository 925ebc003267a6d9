import type { RawEvent } from './event.ts';
import type { StreamId } from './ids.ts';

/** Which events: all that is named must be so. */
export type EventFilter = {
  readonly type?: string | undefined;
  readonly correlationId?: string | undefined;
  readonly streamId?: StreamId | undefined;
  /** Happened at or after. */
  readonly from?: Date | undefined;
  /** Happened before. */
  readonly to?: Date | undefined;
};

/** The last event of a partition that a reader of all partitions has had; seq 0: none yet. */
export type Place = { readonly epoch: number; readonly seq: number };

/** Where a reader of all partitions stands: a place in each, by index. There is no order over partitions but this. */
export type Places = readonly Place[];

/** Seqs of a partition that a reader had had and that were lost with Redis: `from` to `to`. */
export type LostRange = { readonly partition: number; readonly from: number; readonly to: number };

export type FeedPage = {
  /** Of each partition by seq; over partitions by time, as far as clocks tell. */
  readonly events: readonly RawEvent[];
  /** Where the next page begins. */
  readonly end: Places;
  /** There may be more behind `end`, by now. */
  readonly more: boolean;
  /** False: the log can't be had, or can't be trusted, so there may be events that only it has. */
  readonly whole: boolean;
};

/** What a follower of all partitions is told, one after another. */
export type FeedStep =
  /** The next events, each with the place after it: whoever comes back with that goes on right behind it. */
  | {
      readonly kind: 'events';
      readonly events: readonly { readonly event: RawEvent; readonly after: Places }[];
    }
  /** Events that he may have had were lost with Redis. What stands goes on behind `after`. */
  | { readonly kind: 'resync'; readonly lost: readonly LostRange[]; readonly after: Places }
  /** Nothing that is wanted has happened for `idleMs`; `after`: up to where it was looked. */
  | { readonly kind: 'idle'; readonly after: Places };

/** As text that is short for many partitions: epochs and seqs in base 36, `e.s` for each, an epoch like the last left out. */
export function formatPlaces(places: Places): string {
  let last = -1;
  return places
    .map(({ epoch, seq }) => {
      const text = seq.toString(36);
      if (epoch === last) return text;
      last = epoch;
      return `${epoch.toString(36)}.${text}`;
    })
    .join('-');
}

/** Undefined: not of that many partitions, or no places at all. */
export function parsePlaces(text: string, partitions: number): Places | undefined {
  const places: Place[] = [];
  let epoch: number | undefined;
  for (const part of text.split('-')) {
    const [, named, seq] = /^(?:([0-9a-z]{1,8})\.)?([0-9a-z]{1,10})$/.exec(part) ?? [];
    if (named !== undefined) epoch = Number.parseInt(named, 36);
    if (seq === undefined || epoch === undefined) return undefined;
    places.push({ epoch, seq: Number.parseInt(seq, 36) });
  }
  return places.length === partitions ? places : undefined;
}

/** Before the first event of each partition. */
export function firstPlaces(partitions: number): Places {
  return Array.from({ length: partitions }, () => ({ epoch: 0, seq: 0 }));
}
