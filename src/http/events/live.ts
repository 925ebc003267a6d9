import type { FeedStep, Places } from '../../domain/feed.ts';
import { formatEvent, HEARTBEAT_MS, RESYNC_TEXT, RETRY_TEXT } from '../streams.ts';
import { shownEvent } from './event.ts';

/**
 * The events of all partitions as server-sent events. Each has as id the places after it; so has the beginning, and each
 * heartbeat, so that a client that was told nothing yet, or for long, comes back to where it was all the same.
 */
export async function* liveFeed(options: {
  /** What the client knows is none of ours: said before anything else. */
  readonly resync: boolean;
  readonly after: Places;
  readonly follow: (idleMs: number) => AsyncIterable<FeedStep>;
  readonly idOf: (places: Places) => string;
  /** Asked with each heartbeat; false ends the stream. */
  readonly allowed: () => Promise<boolean>;
  readonly onFailure: (error: unknown) => void;
  readonly heartbeatMs?: number;
}): AsyncGenerator<string> {
  const { resync, after, follow, idOf, allowed, onFailure, heartbeatMs = HEARTBEAT_MS } = options;
  try {
    yield RETRY_TEXT;
    if (resync) yield RESYNC_TEXT;
    yield placeText(idOf(after), 'it begins here');
    for await (const step of follow(heartbeatMs)) {
      if (step.kind === 'idle') {
        if (!(await allowed())) return;
        yield placeText(idOf(step.after), 'still here');
      } else if (step.kind === 'resync') {
        yield formatEvent({ id: idOf(step.after), event: 'resync', data: { lost: step.lost } });
      } else {
        for (const { event, after } of step.events) {
          yield formatEvent({ id: idOf(after), event: event.type, data: shownEvent(event) });
        }
      }
    }
  } catch (error) {
    onFailure(error);
  }
}

/** An id without data: a client keeps it, and tells nobody. */
function placeText(id: string, comment: string): string {
  return `: ${comment}\nid: ${id}\n\n`;
}
