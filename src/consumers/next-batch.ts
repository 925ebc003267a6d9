import type { Checkpoint, OrderedGroup } from '../eventstore/types.ts';
import { pause } from './backoff.ts';
import type { Batch } from './partition-log.ts';

/** Read at once, and the least that a batch is put together of. */
export const BATCH_EVENTS = 500;
/** Batches with more than so many events are a sign of a stream of them: the next one waits for more. */
export const FEW_EVENTS = 8;
/** Of data and metadata: no more is put together into a batch. */
const MOST_CHARACTERS = 1_000_000;
/** Of a stream of events that don't concern a group so many, or for so long, are passed over at once. */
const PASSING_EVENTS = 2_000;
const PASSING_MS = 250;
/** How often it looks meanwhile whether one comes that does. */
const PASSING_LOOK_MS = 30;

/**
 * The next events of a group: `size` of them where it is behind. While a stream of them goes by that are none of its business
 * they are gathered: most groups have nothing to do with most events, and a transaction for each batch of each would be most
 * of what they cost.
 */
export async function nextBatch(
  group: OrderedGroup,
  next: (after: Checkpoint) => Promise<Batch | undefined>,
  from: Checkpoint,
  size: number,
  signal: AbortSignal,
): Promise<Batch | undefined> {
  const first = await next(from);
  if (!first || first.events.length <= FEW_EVENTS) return first;
  const passesOver = ({ events }: Batch) => group.concerns !== undefined && !events.some(group.concerns);
  const deadline = performance.now() + PASSING_MS;
  const events = [...first.events];
  let characters = charactersOf(first);
  let passing = passesOver(first);
  let full = first.events.length >= BATCH_EVENTS;
  while (!signal.aborted && characters < MOST_CHARACTERS) {
    const left = deadline - performance.now();
    const last = events.at(-1);
    if (!last || !((full && events.length < size) || (passing && events.length < PASSING_EVENTS && left > 0)))
      break;
    if (!full) await pause(PASSING_LOOK_MS, signal);
    const after = { epoch: last.epoch, seq: last.seq, eventId: last.id };
    const more = await within(Math.max(PASSING_LOOK_MS, left), next(after));
    // Events of two runs of the server must not be taken for one batch.
    if (!more || more.run !== first.run) break;
    events.push(...more.events);
    characters += charactersOf(more);
    passing = passing && passesOver(more);
    full = more.events.length >= BATCH_EVENTS;
  }
  return { run: first.run, events };
}

function charactersOf({ events }: Batch): number {
  return events.reduce((sum, { data, meta }) => sum + data.length + meta.length, 0);
}

/** The promise's outcome, or undefined when the time is up. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  const late = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => late.resolve(undefined), ms);
  return Promise.race([promise, late.promise]).finally(() => clearTimeout(timer));
}
