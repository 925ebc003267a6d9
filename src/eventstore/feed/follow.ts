import type { RawEvent } from '../../domain/event.ts';
import type { EventFilter, FeedPage, FeedStep, LostRange, Places } from '../../domain/feed.ts';
import type { LogTail } from '../tail.ts';
import { wanted } from './filter.ts';
import { openInbox } from './inbox.ts';

const PAGE = 200;
/** While log or ledger can't be read. The tail tells of their return; this is for where it had no part in it. */
const AGAIN_MS = 3_000;

export type FollowFeedOptions = {
  readonly after: Places;
  readonly filter: EventFilter;
  readonly idleMs: number;
  readonly signal: AbortSignal;
};

export type FollowFeedDeps = {
  readonly tail: Pick<LogTail, 'listenToAll'>;
  readonly read: (range: {
    readonly after: Places;
    readonly filter: EventFilter;
    readonly limit: number;
    readonly partitions: readonly number[];
  }) => Promise<FeedPage>;
  readonly stand: (
    places: Places,
  ) => Promise<{ readonly places: Places; readonly lost: readonly LostRange[] }>;
};

/**
 * The events of all partitions that a filter wants, those of the past and then each that is committed; of each partition
 * in order, nothing twice and nothing left out. It listens first, then reads on from its places, and lets pass what it has
 * had. Where the tail may have missed something, that partition is read again from its place on; where that place was
 * lost with Redis, it says so. While log or ledger are away it waits. A follower that fetches slowly costs no more memory:
 * it falls behind, and reads on from log or ledger.
 */
export async function* followFeed(
  deps: FollowFeedDeps,
  { after, filter, idleMs, signal }: FollowFeedOptions,
): AsyncGenerator<FeedStep> {
  let places = after;
  const inbox = openInbox();
  const stops = after.map((_, partition) =>
    deps.tail.listenToAll(partition, { event: inbox.event, reread: () => inbox.reread(partition) }),
  );
  /** Partitions that are to be read again because it did not work. */
  let failed: readonly number[] = [];
  let again = Number.POSITIVE_INFINITY;
  const later = (partitions: readonly number[]) => {
    failed = [...new Set([...failed, ...partitions])];
    again = performance.now() + AGAIN_MS * (0.5 + Math.random());
  };
  let spokeAt = performance.now();

  try {
    while (!signal.aborted) {
      if (failed.length > 0 && performance.now() >= again) {
        for (const partition of failed) inbox.reread(partition);
        failed = [];
        again = Number.POSITIVE_INFINITY;
      }
      if (performance.now() >= spokeAt + idleMs) {
        yield { kind: 'idle', after: places };
        spokeAt = performance.now();
      }
      const stale = inbox.takeStale();
      if (stale.length > 0) {
        const read = await readOn(deps, places, filter, stale).catch(() => undefined);
        if (!read) {
          later(stale);
          continue;
        }
        if (read.lost.length > 0) yield { kind: 'resync', lost: read.lost, after: read.from };
        if (read.page.more) for (const partition of stale) inbox.reread(partition);
        if (!read.page.whole) later(stale);
        const events = placed(read.from, read.page);
        places = read.page.end;
        if (events.length > 0) {
          yield { kind: 'events', events };
          spokeAt = performance.now();
        }
        continue;
      }
      const events: { event: RawEvent; after: Places }[] = [];
      for (const event of inbox.take()) {
        const { epoch, seq, partition } = event;
        const place = places[partition];
        if (!place || (seq <= place.seq && epoch === place.epoch)) continue;
        if (seq !== place.seq + 1) {
          // Read from the place on, or of an epoch that began below it.
          inbox.reread(partition);
          continue;
        }
        places = places.with(partition, { epoch, seq });
        if (wanted(filter, event)) events.push({ event, after: places });
      }
      if (events.length > 0) {
        yield { kind: 'events', events };
        spokeAt = performance.now();
        continue;
      }
      await inbox.wait(Math.min(spokeAt + idleMs, again) - performance.now(), signal);
    }
  } finally {
    for (const stop of stops) stop();
  }
}

/** The next page of some partitions, from where they stand. */
async function readOn(
  { stand, read }: FollowFeedDeps,
  places: Places,
  filter: EventFilter,
  partitions: readonly number[],
) {
  const { places: from, lost } = await stand(places);
  const page = await read({ after: from, filter, limit: PAGE, partitions });
  return { from, lost, page };
}

/** The events of a page with the places after each: those of the last one are the page's end. */
function placed(from: Places, { events, end }: FeedPage) {
  let at = from;
  return events.map((event, index) => {
    at = at.with(event.partition, { epoch: event.epoch, seq: event.seq });
    return { event, after: index === events.length - 1 ? end : at };
  });
}
