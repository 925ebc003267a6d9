import type { RawEvent } from '../domain/event.ts';
import type { EventId, StreamId } from '../domain/ids.ts';
import { LedgerForkError } from './ledger-errors.ts';

/** A row of `ledger` as the insert's JSON names its columns. */
export type LedgerRow = {
  readonly seq: number;
  readonly epoch: number;
  readonly id: string;
  readonly stream: string;
  readonly version: number;
  readonly type: string;
  readonly owner: string | null;
  readonly correlation: string | null;
  readonly at: string;
  readonly data: string;
  readonly meta: string;
};

export type StreamMove = {
  readonly stream: string;
  readonly first: number;
  readonly last: number;
  readonly seq: number;
};

const FIELD_LENGTH = 200;
const YEAR_10000 = Date.UTC(10_000, 0);

/**
 * The event as Postgres can take it: the same, in all that our own code writes. Edges and encoder keep U+0000
 * and lone surrogates out; should one come all the same, it must not stop the ledger. In `data` and `meta`, which
 * are JSON, a raw U+0000 becomes its JSON escape (six characters); elsewhere it becomes U+FFFD, as does a lone
 * surrogate anywhere. What is stored is what is hashed.
 */
export function storable(event: RawEvent): RawEvent {
  return {
    ...event,
    id: scrub(event.id) as EventId,
    streamId: scrub(event.streamId) as StreamId,
    type: scrub(event.type),
    data: event.data.replaceAll('\u0000', '\\u0000').toWellFormed(),
    meta: event.meta.replaceAll('\u0000', '\\u0000').toWellFormed(),
  };
}

/** Of the metadata, only what rows are found by; what is missing or malformed there is no reason to stop. */
export function ledgerRow(event: RawEvent, now: Date): LedgerRow {
  const meta = readMeta(event.meta);
  const at = typeof meta.at === 'string' ? Date.parse(meta.at) : Number.NaN;
  return {
    seq: event.seq,
    epoch: event.epoch,
    id: event.id,
    stream: event.streamId,
    version: event.version,
    type: event.type,
    owner: shortText(meta.owner),
    correlation: shortText(meta.correlation),
    at: (at >= 0 && at < YEAR_10000 ? new Date(at) : now).toISOString(),
    data: event.data,
    meta: event.meta,
  };
}

/** How far each stream of a batch moves. Throws `LedgerForkError` where a stream's versions don't continue. */
export function streamMoves(events: readonly RawEvent[]): StreamMove[] {
  const moves = new Map<string, StreamMove>();
  for (const { streamId, version, seq, partition } of events) {
    const move = moves.get(streamId);
    if (move && version !== move.last + 1) {
      throw new LedgerForkError(
        `partition ${partition}, seq ${seq}: ${streamId} goes from version ${move.last} to ${version}`,
      );
    }
    moves.set(streamId, { stream: streamId, first: move?.first ?? version, last: version, seq });
  }
  return [...moves.values()];
}

function readMeta(json: string): Readonly<Record<string, unknown>> {
  try {
    const meta: unknown = JSON.parse(json);
    return typeof meta === 'object' && meta !== null ? { ...meta } : {};
  } catch {
    return {};
  }
}

/** Cut, as an index refuses long texts. */
function shortText(value: unknown): string | null {
  return typeof value === 'string' ? scrub(value.slice(0, FIELD_LENGTH)) : null;
}

function scrub(text: string): string {
  return text.replaceAll('\u0000', '\ufffd').toWellFormed();
}
