import type { RawEvent } from '../domain/event.ts';
import type { StreamId } from '../domain/ids.ts';
import { HEARTBEAT_MS, HEARTBEAT_TEXT, RESYNC_TEXT, RETRY_TEXT } from './streams.ts';

/** What a follower of a stream is told, one after another. */
export type FollowStep =
  /** The next events, perhaps none. `caughtUp`: nothing is known that comes after them. */
  | { readonly kind: 'events'; readonly events: readonly RawEvent[]; readonly caughtUp: boolean }
  /** The event that the client knows as the last one is none of ours: it begins anew. */
  | { readonly kind: 'resync' }
  /** Nothing has happened for `idleMs`. */
  | { readonly kind: 'idle' };

export type FollowOptions = {
  /** The version after which to begin. */
  readonly after: number;
  readonly idleMs: number;
  readonly signal: AbortSignal;
  /** More has happened than is kept for a client that does not read. */
  readonly onOverflow: () => void;
};

/** A stream's events by version, those of the past and each new one, until `signal` is aborted. */
export type FollowStream<Id extends StreamId = StreamId> = (
  id: Id,
  options: FollowOptions,
) => AsyncIterable<FollowStep>;

/** The events of a stream as server-sent events, until one that is final and has nothing behind it. */
export async function* liveStream(options: {
  readonly known: number | 'unknown' | undefined;
  readonly follow: (after: number, idleMs: number) => AsyncIterable<FollowStep>;
  readonly write: (event: RawEvent) => string | Promise<string>;
  readonly isFinal?: (event: RawEvent) => boolean;
  /** Asked with each heartbeat; false ends the stream. */
  readonly allowed: () => Promise<boolean>;
  readonly onFailure: (error: unknown) => void;
  readonly heartbeatMs?: number;
}): AsyncGenerator<string> {
  const { known, follow, write, isFinal, allowed, onFailure, heartbeatMs = HEARTBEAT_MS } = options;
  const after = typeof known === 'number' ? known : 0;
  let last: RawEvent | undefined;
  try {
    yield RETRY_TEXT;
    if (known === 'unknown') yield RESYNC_TEXT;
    for await (const step of follow(after, heartbeatMs)) {
      if (step.kind === 'resync') yield RESYNC_TEXT;
      else if (step.kind === 'idle') {
        if (!(await allowed())) return;
        yield HEARTBEAT_TEXT;
      } else {
        for (const event of step.events) yield await write(event);
        last = step.events.at(-1) ?? last;
        if (step.caughtUp && last && isFinal?.(last)) return;
      }
    }
  } catch (error) {
    onFailure(error);
  }
}
