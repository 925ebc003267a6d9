import type { RawEvent } from '../../domain/event.ts';
import type { JobId } from '../../domain/ids.ts';
import { type FollowStream, liveStream } from '../live-events.ts';
import { formatEvent } from '../streams.ts';
import { type ShownEvent, shownEvent } from './event.ts';

export type FollowJob = FollowStream<JobId>;

/** After one of these nothing happens to a job, unless somebody has it run again. */
const FINAL = new Set(['JobCompleted', 'JobDeadLettered', 'JobCancelled', 'JobDiscarded']);

export function isFinal({ type }: RawEvent): boolean {
  return FINAL.has(type);
}

/** The events of a job as server-sent events, until the last one of a job that has ended. */
export function liveEvents(
  options: Omit<Parameters<typeof liveStream>[0], 'write' | 'isFinal'> & {
    /** An event as who may see it is shown it. */
    readonly opened: (event: ShownEvent) => Promise<ShownEvent>;
  },
): AsyncGenerator<string> {
  return liveStream({ ...options, write: (event) => textOf(event, options.opened), isFinal });
}

/** The tail hands one event to all that listen: it is written out once for all of them. */
const texts = new WeakMap<RawEvent, Promise<string>>();

function textOf(event: RawEvent, opened: (event: ShownEvent) => Promise<ShownEvent>): Promise<string> {
  const known = texts.get(event);
  if (known !== undefined) return known;
  const text = opened(shownEvent(event)).then((data) =>
    formatEvent({ id: event.version, event: event.type, data }),
  );
  texts.set(event, text);
  text.catch(() => texts.delete(event));
  return text;
}
