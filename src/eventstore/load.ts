import type { Kysely } from 'kysely';
import type { Fold } from '../domain/decision.ts';
import { type EventCodec, codec as everyEvent } from '../domain/events.ts';
import { partitionOf, type StreamId } from '../domain/ids.ts';
import type { Archives } from './archive/archives.ts';
import type { Connection } from './connections.ts';
import type { Fence } from './fence.ts';
import { ask, readStreamEvents, SCAN_CAP } from './history.ts';
import type { PartitionKeys } from './partitions.ts';
import type { LedgerTables } from './tables.ts';
import { type FoldEvent, type Loaded, StoreFencedError } from './types.ts';

export type LoadDeps = {
  /** A reader. */
  readonly connection: Connection;
  readonly db: Kysely<LedgerTables>;
  readonly keys: readonly PartitionKeys[];
  readonly fence: Fence;
  readonly archives?: Archives | undefined;
  readonly codec?: Pick<EventCodec, 'decode'>;
  /** Most events that a load reads of the log's tail. Default 50,000. */
  readonly scanCap?: number;
};

/**
 * A stream's state: from Redis where that can be trusted, else folded from the ledger and the log's tail, which
 * proves absence, too. Throws `StoreUnavailableError` when neither can be had.
 */
export async function loadStream<S, E>(
  deps: LoadDeps,
  streamId: StreamId,
  fold: Fold<S, E>,
): Promise<Loaded<S>> {
  const { connection, fence } = deps;
  const keys = deps.keys[partitionOf(streamId)];
  // An id of an installation with more partitions: nothing of it can be here.
  if (!keys) return { state: fold.initial, version: 0, lastSeq: 0, expected: { kind: 'loaded', version: 0 } };
  const trusted = fence.trusted(keys.partition);
  if (!trusted) throw new StoreFencedError(fence.reason() ?? 'Redis is being compared with the ledger');

  const kept = parseState(await ask(() => connection.redis.get(keys.state(streamId))));
  const loaded = kept && loadedFrom(kept, trusted.recovery, fold);
  if (loaded) return loaded;
  if (!kept && trusted.recovery === 0) {
    const evicted = await ask(() => connection.redis.hget(keys.meta, 'evicted'));
    // No state was ever evicted here and none is from before a recovery: what isn't there has never been.
    if (evicted === '0') {
      return {
        state: fold.initial,
        version: 0,
        lastSeq: 0,
        expected: { kind: 'loaded', version: 0, scannedTo: 0 },
      };
    }
  }
  return fromEvents(deps, keys, streamId, fold);
}

/** A stream's state from its text, at once; undefined: that does not suffice. */
export function loadKept<S, E>(
  fence: Pick<Fence, 'trusted'>,
  streamId: StreamId,
  fold: Fold<S, E>,
  text: string,
): Loaded<S> | undefined {
  const trusted = fence.trusted(partitionOf(streamId));
  const kept = trusted && parseState(text);
  return kept && loadedFrom(kept, trusted.recovery, fold);
}

/** Undefined: it is from before the last recovery, or of another fold version. */
function loadedFrom<S, E>(kept: Kept, recovery: number, fold: Fold<S, E>): Loaded<S> | undefined {
  if (kept.recovery !== recovery || kept.fold !== fold.fold) return undefined;
  const { version, lastSeq, json } = kept;
  // Written by this very fold version.
  const state = fold.kept ? fold.kept.read(json) : (JSON.parse(json) as S);
  return { state, version, lastSeq, expected: { kind: 'loaded', version } };
}

async function fromEvents<S, E>(
  { connection, db, archives, codec = everyEvent, scanCap = SCAN_CAP }: LoadDeps,
  keys: PartitionKeys,
  streamId: StreamId,
  fold: Fold<S, E>,
): Promise<Loaded<S>> {
  const { events, scannedTo } = await ask(() =>
    readStreamEvents({ connection, db, keys, archives }, streamId, { scanCap }),
  );
  let state = fold.initial;
  for (const event of events) {
    const { type, data, meta } = codec.decode(event);
    const { at, owner, correlation } = meta;
    const seen: FoldEvent = { type, data, at, correlation, ...(owner === undefined ? {} : { owner }) };
    // A stream's kind says which events it has, and the caller which fold goes with the kind.
    state = fold.evolve(state, seen as E);
  }
  const version = events.length;
  return {
    state,
    version,
    lastSeq: events.at(-1)?.seq ?? 0,
    expected: { kind: 'loaded', version, scannedTo },
  };
}

type Kept = { version: number; lastSeq: number; recovery: number; fold: number; json: string };

/** `<version> <last seq> <recovery> <fold> <json>` */
function parseState(text: string | null): Kept | undefined {
  if (text === null) return undefined;
  const parts: number[] = [];
  let at = 0;
  for (let index = 0; index < 4; index++) {
    const space = text.indexOf(' ', at);
    parts.push(Number(text.slice(at, space)));
    at = space + 1;
  }
  const [version = 0, lastSeq = 0, recovery = -1, fold = -1] = parts;
  return { version, lastSeq, recovery, fold, json: text.slice(at) };
}
