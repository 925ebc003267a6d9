import type { RawEvent } from '../domain/event.ts';
import type { EventId, StreamId } from '../domain/ids.ts';
import type { History, HistoryRange } from './history.ts';
import type { LogTail } from './tail.ts';

const PAGE = 100;
/** What a follower may have before it that it has not fetched yet. */
const MOST_EVENTS = 1_000;
const MOST_CHARACTERS = 1_000_000;
/** While history can't be read whole. The tail tells of its return; this is for where it had no part in it. */
const AGAIN_MS = 3_000;

/** What a follower of a stream is told, one after another. */
export type Step =
  /** The next events, perhaps none. `caughtUp`: nothing is known that comes after them. */
  | { readonly kind: 'events'; readonly events: readonly RawEvent[]; readonly caughtUp: boolean }
  /** The event that was said to be the last one known is none: it begins anew, with the first. */
  | { readonly kind: 'resync' }
  /** Nothing has happened for `idleMs`. */
  | { readonly kind: 'idle' };

export type FollowOptions = {
  /** The version after which to begin; 0: from the first. */
  readonly after: number;
  readonly idleMs: number;
  readonly signal: AbortSignal;
  /** More has come than is kept for a follower that does not fetch it. Nothing comes after this. */
  readonly onOverflow: () => void;
};

/**
 * A stream's events by version, those of the past and then each that is committed, nothing twice and nothing left out:
 * it listens first, then reads history, and lets pass what it has had. What the tail may have missed is read from
 * history again, from the last version on; where that event is no longer what it was (Redis came back without it) it
 * says `resync`. While log or ledger are away it waits.
 */
export async function* followStream(
  deps: {
    readonly tail: Pick<LogTail, 'listen'>;
    readonly read: (id: StreamId, range: HistoryRange) => Promise<History>;
  },
  streamId: StreamId,
  { after, idleMs, signal, onOverflow }: FollowOptions,
): AsyncGenerator<Step> {
  const inbox = openInbox(onOverflow);
  let last: { readonly version: number; readonly id?: EventId } = { version: after };
  const told = (events: readonly RawEvent[]) => {
    last = events.at(-1) ?? last;
  };
  let readAgainAt = Number.POSITIVE_INFINITY;
  const stop = deps.tail.listen(streamId, inbox);
  try {
    while (!signal.aborted && !inbox.overflowed()) {
      if (inbox.takeReread() || performance.now() >= readAgainAt) {
        readAgainAt = Number.POSITIVE_INFINITY;
        const page = await deps
          .read(streamId, { after: Math.max(0, last.version - 1), limit: PAGE })
          .catch(() => undefined);
        if (!page?.whole) readAgainAt = performance.now() + AGAIN_MS * (1 + Math.random());
        if (!page) continue;
        const [first] = page.events;
        if (last.version > 0 && first?.version !== last.version && !page.whole) continue; // the ledger isn't that far
        if (last.version > 0 && !isSame(first, last)) {
          last = { version: 0 };
          inbox.reread();
          yield { kind: 'resync' };
          continue;
        }
        const full = page.events.length === PAGE;
        if (full) inbox.reread();
        const events = last.version > 0 ? page.events.slice(1) : page.events;
        told(events);
        yield { kind: 'events', events, caughtUp: page.whole && !full && !inbox.hasAfter(last.version) };
        continue;
      }
      const events = inbox.take(last.version);
      if (events === 'gap') inbox.reread();
      else if (events.length > 0) {
        told(events);
        yield { kind: 'events', events, caughtUp: true };
      } else {
        const woken = await inbox.wait(Math.min(idleMs, readAgainAt - performance.now()), signal);
        if (!woken && performance.now() < readAgainAt) yield { kind: 'idle' };
      }
    }
  } finally {
    stop();
  }
}

function isSame(
  event: RawEvent | undefined,
  last: { readonly version: number; readonly id?: EventId },
): boolean {
  return event?.version === last.version && (last.id === undefined || event.id === last.id);
}

/** What the tail has brought and the follower has not fetched yet. Bounded. */
function openInbox(onOverflow: () => void) {
  let events: RawEvent[] = [];
  let characters = 0;
  let stale = false;
  let overflowed = false;
  let wake: (() => void) | undefined;

  return {
    event(event: RawEvent): void {
      if (overflowed) return;
      events.push(event);
      characters += event.data.length + event.meta.length;
      if (events.length > MOST_EVENTS || characters > MOST_CHARACTERS) {
        overflowed = true;
        events = [];
        onOverflow();
      }
      wake?.();
    },
    reread(): void {
      stale = true;
      wake?.();
    },
    overflowed: () => overflowed,
    takeReread(): boolean {
      const was = stale;
      stale = false;
      return was;
    },
    hasAfter: (version: number) => events.some((event) => event.version > version),
    /** Those after a version. `gap`: the next one isn't among them. */
    take(version: number): readonly RawEvent[] | 'gap' {
      const fresh = events.filter((event) => event.version > version);
      events = [];
      characters = 0;
      return fresh.every((event, index) => event.version === version + 1 + index) ? fresh : 'gap';
    },
    /** False: nothing came in so many milliseconds, and nobody said to end. */
    async wait(timeoutMs: number, signal: AbortSignal): Promise<boolean> {
      if (events.length > 0 || stale || overflowed || signal.aborted) return true;
      return new Promise((resolve) => {
        const end = (woken: boolean) => {
          clearTimeout(timer);
          signal.removeEventListener('abort', come);
          wake = undefined;
          resolve(woken);
        };
        const come = () => end(true);
        const timer = setTimeout(() => end(false), Math.max(0, timeoutMs));
        wake = come;
        signal.addEventListener('abort', come, { once: true });
      });
    },
  };
}
