import type { Redis } from 'ioredis';
import type { RawEvent } from '../domain/event.ts';
import type { EventId, StreamId } from '../domain/ids.ts';
import type { PartitionKeys } from './partitions.ts';

/** The log does not go on where it should: entries were trimmed, or lost. */
export class LogGapError extends Error {
  override readonly name = 'LogGapError';
}

/** Field names of a log entry, in their one order. A fixed set keeps entries small (320 bytes for 300). */
const FIELDS = ['i', 's', 'v', 't', 'd', 'm'];

/**
 * Reads entries of XRANGE or of one stream of XREAD: `[[id, [field, value, …]], …]`. Throws on what no commit
 * writes. The fields are gone afterwards: the command that asked keeps its reply until the next full collection (see
 * `ScriptCall`), and would keep megabytes of events with it.
 */
export function parseLogEntries(partition: number, reply: unknown): RawEvent[] {
  if (!Array.isArray(reply)) return [];
  return reply.map((entry: unknown) => {
    const [id, fields]: unknown[] = Array.isArray(entry) ? entry : [];
    const [epoch, seq] = String(id).split('-').map(Number);
    if (epoch === undefined || seq === undefined || !Array.isArray(fields) || !isEntry(fields)) {
      throw new Error(`entry ${id} of partition ${partition}'s log is no event`);
    }
    const [, eventId, , streamId, , version, , type, , data, , meta] = fields;
    if (Array.isArray(entry)) entry.length = 1;
    return {
      partition,
      epoch,
      seq,
      id: eventId as EventId,
      streamId: streamId as StreamId,
      version: Number(version),
      type,
      data,
      meta,
    };
  });
}

type Fields = readonly [
  string,
  string,
  string,
  string,
  string,
  string,
  string,
  string,
  string,
  string,
  string,
  string,
];

function isEntry(fields: readonly unknown[]): fields is Fields {
  return fields.length === 2 * FIELDS.length && FIELDS.every((name, index) => fields[2 * index] === name);
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
