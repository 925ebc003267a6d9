import type { RawEvent } from '../domain/event.ts';
import type { EventId, StreamId } from '../domain/ids.ts';
import { binaryArray } from '../eventstore/binary-arrays.ts';
import { LedgerForkError } from './ledger-errors.ts';

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
  const { id, streamId, type, data, meta } = event;
  if (isStorable(id) && isStorable(streamId) && isStorable(type) && isStorable(data) && isStorable(meta)) {
    return event;
  }
  return {
    ...event,
    id: scrub(event.id) as EventId,
    streamId: scrub(event.streamId) as StreamId,
    type: scrub(event.type),
    data: event.data.replaceAll('\u0000', '\\u0000').toWellFormed(),
    meta: event.meta.replaceAll('\u0000', '\\u0000').toWellFormed(),
  };
}

/**
 * Events as parameters of the insert: a column each, in the order in which `ledger` has them from `seq` on. Of the metadata
 * only what rows are found by; what is missing or malformed there is no reason to stop.
 */
export function eventColumns(events: readonly RawEvent[], now: Date): Buffer[] {
  const metas = events.map(({ meta }) => readMeta(meta));
  const all = <K extends keyof RawEvent>(field: K) => events.map((event) => event[field]);
  return [
    binaryArray('bigint', all('seq')),
    binaryArray('int', all('epoch')),
    binaryArray('text', all('id')),
    binaryArray('text', all('streamId')),
    binaryArray('int', all('version')),
    binaryArray('text', all('type')),
    binaryArray(
      'text',
      metas.map(({ owner }) => shortText(owner)),
    ),
    binaryArray(
      'text',
      metas.map(({ correlation }) => shortText(correlation)),
    ),
    binaryArray(
      'timestamptz',
      metas.map(({ at }) => timeOf(at) ?? now),
    ),
    binaryArray('text', all('data')),
    binaryArray('text', all('meta')),
  ];
}

function timeOf(at: unknown): Date | undefined {
  const ms = typeof at === 'string' ? Date.parse(at) : Number.NaN;
  return ms >= 0 && ms < YEAR_10000 ? new Date(ms) : undefined;
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

/** The moves as parameters: of streams that begin stream, version and seq; of those that go on how many events, too. */
export function moveColumns(moves: readonly StreamMove[]): Buffer[] {
  const begun = moves.filter(({ first }) => first === 1);
  const continued = moves.filter(({ first }) => first !== 1);
  const columns = (of: readonly StreamMove[]) => ({
    stream: binaryArray(
      'text',
      of.map(({ stream }) => stream),
    ),
    events: binaryArray(
      'int',
      of.map(({ first, last }) => last - first + 1),
    ),
    last: binaryArray(
      'int',
      of.map(({ last }) => last),
    ),
    seq: binaryArray(
      'bigint',
      of.map(({ seq }) => seq),
    ),
  });
  const [ofBegun, ofContinued] = [columns(begun), columns(continued)];
  return [
    ...[ofBegun.stream, ofBegun.last, ofBegun.seq],
    ...[ofContinued.stream, ofContinued.events, ofContinued.last, ofContinued.seq],
  ];
}

function readMeta(json: string): Readonly<Record<string, unknown>> {
  try {
    const meta: unknown = JSON.parse(json);
    return isRecord(meta) ? meta : {};
  } catch {
    return {};
  }
}

const isRecord = (value: unknown): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null;

/** Cut, as an index refuses long texts. */
function shortText(value: unknown): string | null {
  return typeof value === 'string' ? scrub(value.slice(0, FIELD_LENGTH)) : null;
}

function isStorable(text: string): boolean {
  return !text.includes('\u0000') && text.isWellFormed();
}

function scrub(text: string): string {
  return text.replaceAll('\u0000', '\ufffd').toWellFormed();
}
