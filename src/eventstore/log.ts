import type { Redis } from 'ioredis';
import type { RawEvent } from '../domain/event.ts';
import type { EventId, StreamId } from '../domain/ids.ts';
import type { PartitionKeys } from './partitions.ts';

/** The log does not go on where it should: entries were trimmed, or lost. */
export class LogGapError extends Error {
  override readonly name = 'LogGapError';
}

/**
 * The one field of a log entry: its event as one text. With a field for each part a read was twice as dear to who reads, and a
 * commit by a tenth to Redis.
 */
export const LOG_FIELD = 'e';

type EventTexts = Pick<RawEvent, 'id' | 'type' | 'data' | 'meta'>;

/**
 * `<event id> <stream id> <version> <type>`, metadata and data, a line each. Data is last, as it alone may be anything.
 * @param event of its metadata no line break is expected: JSON without any
 * @returns the text in pieces: put together it would be made flat more than once on its way to a socket
 */
export function encodeLogEntry(
  streamId: StreamId,
  version: number,
  event: EventTexts,
): readonly [head: string, meta: string, newline: string, data: string] {
  return [`${event.id} ${streamId} ${version} ${event.type}\n`, event.meta, '\n', event.data];
}

/**
 * Reads entries of XRANGE or of one stream of XREAD: `[[id, [field, text]], …]`. Throws on what no commit
 * writes. The texts are gone afterwards: the command that asked keeps its reply until the next full collection (see
 * `ScriptCall`), and would keep megabytes of events with it.
 */
export function parseLogEntries(partition: number, reply: unknown): RawEvent[] {
  if (!Array.isArray(reply)) return [];
  return reply.map((entry: unknown) => {
    const [id, fields]: unknown[] = Array.isArray(entry) ? entry : [];
    const [name, text]: unknown[] = Array.isArray(fields) ? fields : [];
    const event =
      name === LOG_FIELD && typeof text === 'string' ? parseEntry(partition, String(id), text) : undefined;
    if (!event) throw new Error(`entry ${id} of partition ${partition}'s log is no event`);
    if (Array.isArray(entry)) entry.length = 1;
    return event;
  });
}

/** Of all that is done for an event this is done most often: no list or object is made but the event itself. */
function parseEntry(partition: number, entryId: string, text: string): RawEvent | undefined {
  const dash = entryId.indexOf('-');
  const line = text.indexOf('\n');
  const next = text.indexOf('\n', line + 1);
  // Put together anew, or whoever keeps an id would keep the whole event: V8 cuts by reference.
  const head = ` ${text.slice(0, line + 1)}`;
  const stream = head.indexOf(' ', 1) + 1;
  const version = head.indexOf(' ', stream) + 1;
  const type = head.indexOf(' ', version) + 1;
  if (dash < 0 || line < 0 || next < 0 || stream < 3 || version < 1 || type < 1) return undefined;
  return {
    partition,
    epoch: Number(entryId.slice(0, dash)),
    seq: Number(entryId.slice(dash + 1)),
    id: head.slice(1, stream - 1) as EventId,
    streamId: head.slice(stream, version - 1) as StreamId,
    version: Number(head.slice(version, type - 1)),
    type: head.slice(type, -1),
    data: text.slice(next + 1),
    meta: text.slice(line + 1, next),
  };
}

/**
 * Reads the events after a position, at most `count`. Throws `LogGapError` when they are not contiguous, or do not
 * begin right after `from`.
 * @param from epoch and seq of an event that was read; `{epoch: 0, seq: 0}`: from the beginning
 */
export async function readLogAfter(
  redis: Redis,
  keys: PartitionKeys,
  from: { readonly epoch: number; readonly seq: number },
  count: number,
): Promise<RawEvent[]> {
  const reply = await redis.xrange(keys.log, `(${from.epoch}-${from.seq}`, '+', 'COUNT', count);
  const events = parseLogEntries(keys.partition, reply);
  assertContiguous(from.seq, events);
  return events;
}

/** Throws `LogGapError` unless the events are dense and begin right after seq `after`. */
export function assertContiguous(after: number, events: readonly RawEvent[]): void {
  let expected = after + 1;
  for (const event of events) {
    if (event.seq !== expected) {
      throw new LogGapError(
        `partition ${event.partition} goes on at event ${event.seq} where ${expected} should be`,
      );
    }
    expected++;
  }
}
