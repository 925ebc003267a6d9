import type { RawEvent } from '../../domain/event.ts';
import type { EventFilter } from '../../domain/feed.ts';

/** Whether an event of the log is wanted; of the ledger's rows, SQL says the same. */
export function wanted(filter: EventFilter, event: RawEvent): boolean {
  const { type, streamId, correlationId, from, to } = filter;
  if (type !== undefined && event.type !== type) return false;
  if (streamId !== undefined && event.streamId !== streamId) return false;
  if (correlationId === undefined && from === undefined && to === undefined) return true;
  const meta = metaOf(event);
  if (correlationId !== undefined && meta.correlation !== correlationId) return false;
  const at = timeOf(event);
  return (from === undefined || at >= from.getTime()) && (to === undefined || at < to.getTime());
}

/** When it happened, ms since 1970. */
export function timeOf(event: RawEvent): number {
  return Date.parse(String(metaOf(event).at));
}

/** Each event is asked several times, and its metadata taken apart once. */
const metas = new WeakMap<RawEvent, Readonly<Record<string, unknown>>>();

/** Of an event that can't be read it is empty: such events are looked for here. */
function metaOf(event: RawEvent): Readonly<Record<string, unknown>> {
  const known = metas.get(event);
  if (known) return known;
  const meta = readJson(event.meta);
  metas.set(event, meta);
  return meta;
}

function readJson(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null ? { ...value } : {};
  } catch {
    return {};
  }
}
