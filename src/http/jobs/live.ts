import type { RawEvent } from '../../domain/event.ts';
import type { JobId } from '../../domain/ids.ts';
import { type FollowStream, liveStream } from '../live-events.ts';
import { formatEvent } from '../streams.ts';
import { shownEvent } from './event.ts';

export type FollowJob = FollowStream<JobId>;

/** After one of these nothing happens to a job, unless somebody has it run again. */
const FINAL = new Set(['JobCompleted', 'JobDeadLettered', 'JobCancelled', 'JobDiscarded']);

export function isFinal({ type }: RawEvent): boolean {
  return FINAL.has(type);
}

/** The events of a job as server-sent events, until the last one of a job that has ended. */
export function liveEvents(
  options: Omit<Parameters<typeof liveStream>[0], 'write' | 'isFinal'>,
): AsyncGenerator<string> {
  return liveStream({ ...options, write: textOf, isFinal });
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
