import type { Kysely } from 'kysely';
import type { RawEvent } from '../domain/event.ts';
import { partitionOf, type StreamId } from '../domain/ids.ts';
import type { Archives } from './archive/archives.ts';
import { LEDGER_GROUP, readCheckpoint } from './checkpoints.ts';
import type { Connection } from './connections.ts';
import type { Fence } from './fence.ts';
import { readStream } from './ledger-read.ts';
import { LogGapError, readLogAfter } from './log.ts';
import type { PartitionKeys } from './partitions.ts';
import type { LedgerTables } from './tables.ts';
import { StoreUnavailableError } from './types.ts';

/** Most events that are read of the log's tail for one stream. */
export const SCAN_CAP = 50_000;

const PAGE = 1_000;

type Deps = {
  readonly connection: Connection;
  readonly db: Kysely<LedgerTables>;
  readonly keys: PartitionKeys;
  /** Where the ledger's oldest events are read from. */
  readonly archives?: Archives | undefined;
};

export type HistoryRange = {
  /** Events of a higher version. Default: all. */
  readonly after?: number;
  readonly limit?: number;
};

export type History = {
  readonly events: RawEvent[];
  /** False: the log can't be had, or can't be trusted, so there may be events that only it has. */
  readonly whole: boolean;
};

/**
 * A stream's events, by version, from the ledger and the log's tail. While the log can't be had, or can't be trusted,
 * what the ledger has. Throws `StoreUnavailableError` when the ledger can't be read.
 */
export async function readHistory(
  deps: Omit<Deps, 'keys'> & {
    readonly keys: readonly PartitionKeys[];
    readonly fence: Pick<Fence, 'trusted'>;
  },
  streamId: StreamId,
  range: HistoryRange,
): Promise<History> {
  const keys = deps.keys[partitionOf(streamId)];
  if (!keys) return { events: [], whole: true };
  const trusted = deps.fence.trusted(keys.partition);
  if (!trusted || deps.connection.runId() !== trusted.runId) {
    return { events: await ask(() => readStream(deps.db, streamId, range, deps.archives)), whole: false };
  }
  const { events } = await ask(() => readStreamEvents({ ...deps, keys }, streamId, range));
  return { events, whole: true };
}

/** All events of a stream, a page at a time: there may be more of them than memory should hold. */
export async function* wholeHistory(
  store: { readonly history: (streamId: StreamId, range: HistoryRange) => Promise<RawEvent[]> },
  streamId: StreamId,
): AsyncGenerator<RawEvent> {
  for (let after = 0; ; ) {
    const page = await store.history(streamId, { after, limit: PAGE });
    yield* page;
    if (page.length < PAGE) return;
    after += page.length;
  }
}

/**
 * Events of a stream, and, unless `limit` was reached, the seq up to which there is no other. Throws
 * `StoreUnavailableError` where the ledger is more than `scanCap` events behind.
 */
export async function readStreamEvents(
  { connection, db, keys, archives }: Deps,
  streamId: StreamId,
  range: HistoryRange & { readonly scanCap?: number },
): Promise<{ events: RawEvent[]; scannedTo: number }> {
  const { after = 0, limit = Number.POSITIVE_INFINITY, scanCap = SCAN_CAP } = range;
  for (let attempt = 1; ; attempt++) {
    // The checkpoint first: rows that come in between are found in the ledger, or twice.
    const from = (await readCheckpoint(db, LEDGER_GROUP, keys.partition)) ?? { epoch: 0, seq: 0 };
    const events = await readStream(db, streamId, range, archives);
    try {
      let at = { epoch: from.epoch, seq: from.seq };
      while (events.length < limit) {
        const page = await readLogAfter(connection.redis, keys, at, PAGE);
        const last = page.at(-1);
        if (!last) break;
        for (const event of page) {
          const next = after + events.length;
          if (event.streamId === streamId && event.version > next && events.length < limit) {
            events.push(event);
          }
        }
        at = { epoch: last.epoch, seq: last.seq };
        if (page.length < PAGE) break;
        if (at.seq - from.seq > scanCap) {
          throw new StoreUnavailableError(
            `the ledger is more than ${scanCap} events behind in partition ${keys.partition}`,
          );
        }
      }
      assertDense(streamId, events, after);
      return { events, scannedTo: at.seq };
    } catch (error) {
      // Trimmed meanwhile, since the ledger has moved on: begin from where it is now.
      if (!(error instanceof LogGapError) || attempt >= 3) throw error;
    }
  }
}

function assertDense(streamId: StreamId, events: readonly RawEvent[], after: number): void {
  for (const [index, event] of events.entries()) {
    if (event.version !== after + index + 1) {
      throw new Error(`${streamId} has version ${event.version} where ${after + index + 1} should be`);
    }
  }
}

/** Whatever Redis or Postgres throws while they are away: nothing was done. */
export async function ask<T>(question: () => Promise<T>): Promise<T> {
  try {
    return await question();
  } catch (error) {
    if (error instanceof StoreUnavailableError) throw error;
    throw new StoreUnavailableError('the state cannot be read now', { cause: error });
  }
}
