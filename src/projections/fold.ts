import type { RawEvent } from '../domain/event.ts';
import { type EventCodec, type RecordedEvent, UnknownEventError } from '../domain/events.ts';
import type { Loaded } from './bulk.ts';
import type { ParkedBecause, ParkedEvent } from './parked.ts';
import type { AnyProjection, AnyRow, Keying } from './projection.ts';

/** An event that concerns a row: decoded, or with the reason why it could not be. */
export type Concern = { readonly raw: RawEvent; readonly key: string } & (
  | { readonly event: RecordedEvent }
  | { readonly error: string }
);

/**
 * The events of a batch that concern rows of the projection.
 * Throws `UnknownEventError`: this code must leave the partition to newer code.
 */
export function readBatch(
  projection: Keying,
  codec: EventCodec,
  events: readonly RawEvent[],
): readonly Concern[] {
  const found: Concern[] = [];
  for (const raw of events) {
    const concern = readEvent(projection, codec, raw);
    if (concern) found.push(concern);
  }
  return found;
}

function readEvent(projection: Keying, codec: EventCodec, raw: RawEvent): Concern | undefined {
  if (!codec.knows(raw.type)) throw new UnknownEventError(`event type ${raw.type} is unknown to this code`);
  if (!mayConcern(projection, raw)) return undefined;
  try {
    const event = codec.decode(raw);
    if (Number.isNaN(Date.parse(event.meta.at))) throw new Error(`event ${raw.id} has no time`);
    const key = projection.key(event);
    return key === undefined ? undefined : { raw, key, event };
  } catch (error) {
    if (error instanceof UnknownEventError) throw error;
    const key = projection.keyOfUndecodable ? projection.keyOfUndecodable(raw) : raw.streamId;
    return key === undefined ? undefined : { raw, key, error: messageOf(error) };
  }
}

/** Whether an event may concern a row of the projection, by its type and a cheap look at it. */
export function mayConcern(projection: Keying, raw: RawEvent): boolean {
  return Object.hasOwn(projection.handles, raw.type) && (projection.mayConcern?.(raw) ?? true);
}

export type Folded<R extends AnyRow> = {
  /** Rows that differ from what was loaded, by key. */
  readonly rows: Map<string, R>;
  readonly parked: ParkedEvent[];
  readonly applied: RecordedEvent[];
};

/**
 * Folds a batch. An event that can't be decoded or reduced is parked, and all later ones of its row behind it:
 * a row that lacks an event must not look as if it had seen the next one.
 */
export function foldBatch<R extends AnyRow>(
  projection: AnyProjection<R>,
  batch: readonly Concern[],
  loaded: Loaded<R>,
): Folded<R> {
  const blocked = new Set(loaded.blocked);
  const folded: Folded<R> = { rows: new Map(), parked: [], applied: [] };
  for (const concern of batch) {
    const wrong = blocked.has(concern.key) ? BEHIND : apply(projection, concern, loaded.rows, folded);
    if (wrong === undefined) continue;
    blocked.add(concern.key);
    folded.parked.push({ event: concern.raw, rowKey: concern.key, ...wrong });
  }
  return folded;
}

type Wrong = { readonly because: ParkedBecause; readonly error: string };

const BEHIND: Wrong = { because: 'behind', error: 'an earlier event of this row is parked' };

function apply<R extends AnyRow>(
  projection: AnyProjection<R>,
  concern: Concern,
  rows: ReadonlyMap<string, R>,
  folded: Folded<R>,
): Wrong | undefined {
  if ('error' in concern) return { because: 'decode', error: concern.error };
  const before = folded.rows.get(concern.key) ?? rows.get(concern.key);
  try {
    const after = projection.reduce(before, concern.event);
    if (after !== undefined && after !== before) folded.rows.set(concern.key, after);
    folded.applied.push(concern.event);
    return undefined;
  } catch (error) {
    return { because: 'reducer', error: messageOf(error) };
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
}
