import type { RawEvent, Recorded } from '../../domain/event.ts';
import { codec, type RecordedEvent } from '../../domain/events.ts';
import type { JobEvent } from '../../domain/jobs/events.ts';
import { type JobView, view } from './queries.ts';
import { type JobRow, jobAfter, projection } from './table.ts';

/** Where a look back ends: with the event of that version, or before the first one of a later time. */
export type AsOf = { readonly version: number } | { readonly at: Date };

/**
 * A job as it was, and whose it is: folded from its events, in order, by the reducer that makes its row. Undefined:
 * there was no such job yet, or there is no such version.
 */
export async function jobAsOf(
  history: AsyncIterable<RawEvent>,
  asOf: AsOf,
): Promise<{ readonly job: JobView; readonly owner?: string } | undefined> {
  let row: JobRow | undefined;
  for await (const raw of history) {
    const event = jobEventOf(raw);
    if ('at' in asOf && Date.parse(event.meta.at) > asOf.at.getTime()) break;
    row = jobAfter(row, event);
    if ('version' in asOf && event.version === asOf.version) break;
  }
  if (!row || ('version' in asOf && row.version !== asOf.version)) return undefined;
  return { job: view(row), ...(row.owner === null ? {} : { owner: row.owner }) };
}

/** A job's row after another event of it: what `view` shows. */
export function rowAfter(row: JobRow | undefined, raw: RawEvent): JobRow {
  return jobAfter(row, jobEventOf(raw));
}

function jobEventOf(raw: RawEvent): Recorded<JobEvent> {
  const event = codec.decode(raw);
  if (!isJobEvent(event)) throw new Error(`${raw.type} is no event of a job`);
  return event;
}

function isJobEvent(event: RecordedEvent): event is Recorded<JobEvent> {
  return Object.hasOwn(projection.handles, event.type);
}
