import type { Kysely } from 'kysely';
import type { RawEvent } from '../domain/event.ts';
import type { StreamId } from '../domain/ids.ts';
import type { Archives } from './archive/archives.ts';
import { type Clock, createClock } from './clock.ts';
import { commitScripts, createCommitter } from './commit.ts';
import { type Connection, connectReader, connectWriter } from './connections.ts';
import { createFence, type Fence } from './fence.ts';
import { type HistoryRange, readHistory } from './history.ts';
import { ensureInstallation } from './installation.ts';
import { loadKept, loadStream } from './load.ts';
import { type Maintenance, maintain, maintainScript } from './maintain.ts';
import { createMemoryGuard, type MemoryGuard } from './memory-guard.ts';
import { metaScript } from './meta.ts';
import { createKeys, type PartitionKeys } from './partitions.ts';
import { checkServer } from './server-check.ts';
import type { LedgerTables } from './tables.ts';
import { createTold, type Told } from './told.ts';
import { type Claim, type EventStore, StoreUnavailableError } from './types.ts';

export type EventStoreOptions = {
  readonly redisUrl: string;
  readonly db: Kysely<LedgerTables>;
  /** Where the ledger's oldest events are read from; without it, asking for such events throws. */
  readonly archives?: Archives | undefined;
  /** What this installation's keys begin with. */
  readonly prefix: string;
  /** Fixed for the installation. */
  readonly partitions: number;
  /** Shown by CLIENT LIST. */
  readonly name: string;
  /** How long to wait for Redis at the start. Default 10,000. */
  readonly startWithinMs?: number;
  /** How long a commit whose reply was lost is asked for again. Default 3,000. */
  readonly deadlineMs?: number;
  /** A silent Redis is given up, and asked anew, after this. Default 2,000. */
  readonly replyWithinMs?: number;
  /** How often each process looks whether Redis still is what it trusts. Default 1,000. */
  readonly fenceIntervalMs?: number;
  /** The memory guard's limit where Redis has no `maxmemory`. Default: half of the machine's memory. */
  readonly memoryLimitBytes?: number;
  /** Called once for each commit: its outcome's kind, or the name of the error. */
  readonly onCommit?: (outcome: string, seconds: number) => void;
  readonly onWarning?: (warning: string) => void;
  readonly onError?: (error: Error) => void;
};

/** The store, and those of its parts that consumers share. */
export type OpenEventStore = EventStore & {
  readonly keys: readonly PartitionKeys[];
  readonly archives: Archives | undefined;
  readonly fence: Fence;
  /** Whoever reads the log notes here how far it goes. */
  readonly told: Told;
  readonly guard: MemoryGuard;
  /** The time as Redis has it. */
  readonly clock: Pick<Clock, 'now'>;
  /** For short scripts beside the commits; knows its server's run id. */
  readonly writer: Connection;
  readonly reader: Connection;
  /** A stream's events by version, from the ledger and the log's tail. */
  history(streamId: StreamId, range: HistoryRange): Promise<RawEvent[]>;
  /** Evicts states and trims the log. */
  maintain(what: Maintenance): Promise<{ evicted: number; trimmed: number }>;
};

/**
 * Connects, makes sure that this Redis may hold a log, and begins the installation at its first start. Where Redis
 * and the ledger disagree the store opens all the same, with commits stopped: `fencedBecause()` says why.
 *
 * Throws what an operator must set right before anything can start: another PARTITIONS, a Redis that is too old, a
 * replica, or evicts.
 */
export async function createEventStore(options: EventStoreOptions): Promise<OpenEventStore> {
  const { redisUrl: url, db, archives, prefix, partitions, name, onError = () => {} } = options;
  const keys = createKeys(prefix, partitions);
  const scripts = [commitScripts.command, commitScripts.completion, maintainScript, metaScript];
  const { replyWithinMs } = options;
  const patience = replyWithinMs === undefined ? {} : { replyWithinMs };
  const writer = connectWriter({ url, name: `${name}-writer`, scripts, onError, ...patience });
  const reader = connectReader({ url, name: `${name}-reader`, onError, ...patience });
  // One that was left behind at a server that has been replaced would go on reading there.
  writer.onReady((runId) => {
    if (reader.runId() !== undefined && reader.runId() !== runId) reader.reconnect();
  });
  const closing: (() => void)[] = [writer.close, reader.close];
  const close = () => {
    for (const each of closing) each();
  };
  try {
    const within = options.startWithinMs ?? 10_000;
    const [runId] = await Promise.all([writer.whenReady(within), reader.whenReady(within)]);
    const { problems, warnings } = await checkServer(writer.redis);
    if (problems.length > 0) throw new Error(problems.join('; '));
    for (const warning of warnings) options.onWarning?.(warning);
    await ensureInstallation(db, writer, keys, runId);

    const told = createTold(partitions);
    const { fenceIntervalMs: intervalMs } = options;
    const fence = createFence({ connection: writer, db, prefix, keys, told, intervalMs });
    closing.push(fence.close);
    const guard = createMemoryGuard(reader, { limitBytes: options.memoryLimitBytes });
    closing.push(guard.close);
    const clock = createClock(reader);
    closing.push(clock.close);
    await Promise.all([fence.refresh(), guard.refresh(), clock.refresh()]);
    const commit = createCommitter({
      connection: writer,
      keys,
      fence,
      told,
      guard,
      deadlineMs: options.deadlineMs,
      onCommit: options.onCommit,
    });
    return {
      partitions,
      keys,
      archives,
      fence,
      told,
      guard,
      clock,
      writer,
      reader,
      commit,
      load: (streamId, fold) => loadStream({ connection: reader, db, keys, fence, archives }, streamId, fold),
      loadKept: (streamId, fold, kept) => loadKept(fence, streamId, fold, kept),
      history: async (streamId, range) =>
        (await readHistory({ connection: reader, db, keys, fence, archives }, streamId, range)).events,
      findClaim: (partition, key) => findClaim(reader, keys, partition, key),
      heads: () => readHeads(reader, keys),
      fencedBecause: fence.reason,
      maintain: (what) => maintain(writer, keys, fence, what),
      close: async () => close(),
    };
  } catch (error) {
    close();
    throw error;
  }
}

async function findClaim(
  { redis }: Connection,
  keys: readonly PartitionKeys[],
  partition: number,
  key: string,
): Promise<Claim | undefined> {
  const names = keys[partition];
  const text = await redis.get(names?.claim(key) ?? '').catch((error: unknown) => {
    throw new StoreUnavailableError('claims cannot be read now', { cause: error });
  });
  const [, fingerprint, epoch, seq, answer] = /^(\S+) (\d+) (\d+) (.*)$/s.exec(text ?? '') ?? [];
  if (fingerprint === undefined || answer === undefined) return undefined;
  return { fingerprint, position: { partition, epoch: Number(epoch), seq: Number(seq) }, answer };
}

async function readHeads({ redis }: Connection, keys: readonly PartitionKeys[]): Promise<number[]> {
  const pipeline = redis.pipeline();
  for (const { meta } of keys) pipeline.hget(meta, 'seq');
  const replies = await pipeline.exec().catch((error: unknown) => {
    throw new StoreUnavailableError('the heads of the partitions cannot be read now', { cause: error });
  });
  return keys.map((_, partition) => {
    const [error, seq] = replies?.[partition] ?? [];
    if (error || typeof seq !== 'string') {
      throw new StoreUnavailableError(`the head of partition ${partition} cannot be read now`);
    }
    return Number(seq);
  });
}
