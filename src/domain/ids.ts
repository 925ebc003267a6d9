/**
 * Ids of streams carry what is needed to route them: `<kind>-<partition><random>`, for example
 * `job-0fX3kP…`: kind, a dash, the partition in two base-36 digits, then random characters (or, for a
 * stream that is named after a key, the key's HMAC). A later command finds its partition with no look-up.
 *
 * Ids are opaque to clients; only this file takes them apart.
 */

declare const brand: unique symbol;
type Branded<B extends string> = string & { readonly [brand]: B };

/** Kinds of streams. Stored in every id: identifiers for life. */
export type StreamKind = 'acc' | 'email' | 'ses' | 'job' | 'exp' | 'sched' | 'queue' | 'op';

export type StreamId = Branded<'stream'>;
export type AccountId = StreamId & { readonly kind?: 'acc' };
export type SessionId = StreamId & { readonly kind?: 'ses' };
export type JobId = StreamId & { readonly kind?: 'job' };
export type ExportId = StreamId & { readonly kind?: 'exp' };
export type ScheduleId = StreamId & { readonly kind?: 'sched' };
export type QueueId = StreamId & { readonly kind?: 'queue' };
export type EventId = Branded<'event'>;

/** The most partitions that two base-36 digits can name; far above any sensible number. */
export const MAX_PARTITIONS = 1024;

const PATTERN = /^(acc|email|ses|job|exp|sched|queue|op)-([0-9a-z]{2})([0-9A-Za-z]{16,64})$/;

/**
 * Makes a stream id.
 * @param kind what the stream is about
 * @param partition 0 … partitions − 1
 * @param unique 16 to 64 letters and digits: random, or an HMAC of the key that the stream is named after
 */
export function streamId(kind: StreamKind, partition: number, unique: string): StreamId {
  if (!(partition >= 0 && partition < MAX_PARTITIONS)) throw new Error(`no such partition: ${partition}`);
  const id = `${kind}-${partition.toString(36).padStart(2, '0')}${unique}`;
  if (!PATTERN.test(id)) throw new Error(`not a stream id: ${id}`);
  return id as StreamId;
}

/** Reads an id that came from outside. Undefined: not an id of one of these kinds, so nothing has it. */
export function parseStreamId(text: string, ...kinds: StreamKind[]): StreamId | undefined {
  const match = PATTERN.exec(text);
  if (!match) return undefined;
  if (kinds.length > 0 && !kinds.includes(match[1] as StreamKind)) return undefined;
  return text as StreamId;
}

/** The partition that a stream lives in: 0 … partitions − 1. */
export function partitionOf(id: StreamId): number {
  const dash = id.indexOf('-');
  return Number.parseInt(id.slice(dash + 1, dash + 3), 36);
}

export function kindOf(id: StreamId): StreamKind {
  return id.slice(0, id.indexOf('-')) as StreamKind;
}

/** What follows the kind: the same for an export and the job that carries it out. */
function rest(id: StreamId): string {
  return id.slice(id.indexOf('-') + 1);
}

/** The job of an export shares its partition and its random part, so each is found from the other. */
export function jobOfExport(id: ExportId): JobId {
  return `job-${rest(id)}` as JobId;
}

export function exportOfJob(id: JobId): ExportId {
  return `exp-${rest(id)}` as ExportId;
}

/**
 * The stream of a queue, found by the queue's name. All of them live in the first partition: there are few, and who
 * asks for one asks for all.
 * @param name at most 32 ASCII characters
 */
export function queueStream(name: string): QueueId {
  const hex = [...name].map((letter) => letter.charCodeAt(0).toString(16).padStart(2, '0'));
  return streamId('queue', 0, hex.join('').padEnd(16, '0'));
}
