import type { RawEvent } from '../../domain/event.ts';
import type { JobId } from '../../domain/ids.ts';
import { formatEvent, HEARTBEAT_MS, HEARTBEAT_TEXT, RESYNC_TEXT, RETRY_TEXT } from '../streams.ts';
import { shownEvent } from './event.ts';

/** What a follower of a job's events is told, one after another. */
export type FollowStep =
  /** The next events, perhaps none. `caughtUp`: nothing is known that comes after them. */
  | { readonly kind: 'events'; readonly events: readonly RawEvent[]; readonly caughtUp: boolean }
  /** The event that the client knows as the last one is none of ours: it begins anew. */
  | { readonly kind: 'resync' }
  /** Nothing has happened for `idleMs`. */
  | { readonly kind: 'idle' };

/** A job's events by version, those of the past and each new one, until `signal` is aborted. */
export type FollowJob = (
  id: JobId,
  options: {
    /** The version after which to begin. */
    readonly after: number;
    readonly idleMs: number;
    readonly signal: AbortSignal;
    /** More has happened than is kept for a client that does not read. */
    readonly onOverflow: () => void;
  },
) => AsyncIterable<FollowStep>;

/** After one of these nothing happens to a job, unless somebody has it run again. */
const FINAL = new Set(['JobCompleted', 'JobDeadLettered', 'JobCancelled', 'JobDiscarded']);

export function isFinal({ type }: RawEvent): boolean {
  return FINAL.has(type);
}

/** The events of a job as server-sent events, until the last one of a job that has ended. */
export async function* liveEvents(options: {
  readonly known: number | 'unknown' | undefined;
  readonly follow: (after: number, idleMs: number) => AsyncIterable<FollowStep>;
  /** Asked with each heartbeat; false ends the stream. */
  readonly allowed: () => Promise<boolean>;
  readonly onFailure: (error: unknown) => void;
  readonly heartbeatMs?: number;
}): AsyncGenerator<string> {
  const { known, follow, allowed, onFailure, heartbeatMs = HEARTBEAT_MS } = options;
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
        for (const event of step.events) yield textOf(event);
        last = step.events.at(-1) ?? last;
        if (step.caughtUp && last && isFinal(last)) return;
      }
    }
  } catch (error) {
    onFailure(error);
  }
}

/** The tail hands one event to all that listen: it is written out once for all of them. */
const texts = new WeakMap<RawEvent, string>();

function textOf(event: RawEvent): string {
  const known = texts.get(event);
  if (known !== undefined) return known;
  const text = formatEvent({ id: event.version, event: event.type, data: shownEvent(event) });
  texts.set(event, text);
  return text;
}
