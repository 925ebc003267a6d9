import { setTimeout as delay } from 'node:timers/promises';
import type { RawEvent } from '../domain/event.ts';
import { partitionOf, type StreamId } from '../domain/ids.ts';
import type { Connection } from './connections.ts';
import type { Fence } from './fence.ts';
import { parseLogEntries } from './log.ts';
import { readMetas } from './meta.ts';
import type { PartitionKeys } from './partitions.ts';
import type { Told } from './told.ts';
import { StoreUnavailableError } from './types.ts';

/** How long a read at the tail blocks. Its connection's socket timeout must lie above it. */
export const TAIL_BLOCK_MS = 5_000;
/** Of each partition, in one read: events may be large. */
const READ_EVENTS = 100;
const READY_WITHIN_MS = 500;
const AGAIN_MS = 100;

/** Who follows a stream, or a partition. Neither call may throw. */
export type TailListener = {
  /** An event of it: each one that is committed after `reread` was last called, in order. */
  event(event: RawEvent): void;
  /** Begin with its history, or go on with it: events may have been passed over. */
  reread(): void;
};

export type LogTail = {
  /**
   * Follows a stream from now on. `reread` is called once the tail stands at a position, often before this returns;
   * what is committed later comes as `event`. Call the answer to end it.
   */
  listen(streamId: StreamId, listener: TailListener): () => void;
  /** The same for all events of a partition. */
  listenToAll(partition: number, listener: TailListener): () => void;
  close(): void;
};

/** One partition that somebody listens to. */
type Followed = {
  readonly keys: PartitionKeys;
  readonly listeners: Map<StreamId, Set<TailListener>>;
  readonly toAll: Set<TailListener>;
  /** The last event that was read; undefined: the tail doesn't stand anywhere yet. */
  at: { readonly epoch: number; readonly seq: number } | undefined;
};

/**
 * One blocking read of the newest events for all listeners of a process, however many: over the logs of those
 * partitions that have any. An entry is taken apart once.
 *
 * It promises no more than hints of whole events: after another server took over, or where the log was trimmed beneath
 * it, it says `reread`, and history has what was missed.
 *
 * @param deps.blocking for this alone; closed by `close`
 * @param deps.reader for the short command that ends a block when another partition gets its first listener
 */
export function openLogTail(deps: {
  readonly keys: readonly PartitionKeys[];
  readonly blocking: Connection;
  readonly reader: Connection;
  readonly fence: Pick<Fence, 'trusted'>;
  /** Is told how far the log goes. */
  readonly told: Pick<Told, 'note'>;
}): LogTail {
  const { blocking, reader, fence, told } = deps;
  const followed = new Map<number, Followed>();
  /** Run id of the server that the positions are of. */
  let run: string | undefined;
  let clientId: number | undefined;
  let running = false;
  let away = false;
  let closed = false;
  /** Counts the blocking reads; `blocked` while one is under way. */
  let reads = 0;
  let blocked = false;

  blocking.onReady(() => {
    clientId = undefined;
  });

  async function follow(): Promise<void> {
    running = true;
    while (followed.size > 0 && !closed) {
      try {
        await readOn();
      } catch {
        // A connection that broke, or a server that is being compared with the ledger. Who has just come can read the
        // ledger meanwhile; the others would find nothing there that they have not had.
        if (!away) for (const partition of followed.values()) if (!partition.at) reread(partition);
        away = true;
        await delay(AGAIN_MS);
      }
    }
    running = false;
  }

  async function readOn(): Promise<void> {
    const now = await blocking.whenReady(READY_WITHIN_MS);
    if (reader.runId() !== undefined && reader.runId() !== now) blocking.reconnect();
    if (run !== now) for (const partition of followed.values()) partition.at = undefined;
    run = now;
    clientId ??= await blocking.redis.client('ID');
    const fresh = [...followed.values()].filter(({ at }) => at === undefined);
    if (fresh.length > 0) return begin(fresh, now);
    away = false;

    const reading = [...followed.values()];
    blocked = true;
    const reply = await blocking.redis
      .xread(
        ...(['COUNT', READ_EVENTS, 'BLOCK', TAIL_BLOCK_MS, 'STREAMS'] as const),
        ...reading.map(({ keys }) => keys.log),
        ...reading.map(({ at }) => `${at?.epoch}-${at?.seq}`),
      )
      .finally(() => {
        blocked = false;
        reads++;
      });
    if (blocking.runId() !== now) return;
    for (const [key, entries] of reply ?? []) {
      const partition = reading.find(({ keys }) => keys.log === key);
      if (partition) handOut(partition, parseLogEntries(partition.keys.partition, entries));
    }
  }

  /** Where the partitions' logs end now: what is before that, history has. */
  async function begin(partitions: readonly Followed[], runId: string): Promise<void> {
    if (partitions.some(({ keys }) => fence.trusted(keys.partition)?.runId !== runId)) {
      throw new StoreUnavailableError('Redis is being compared with the ledger');
    }
    const metas = await readMetas(
      blocking.redis,
      partitions.map(({ keys }) => keys),
    );
    if (blocking.runId() !== runId) return;
    for (const [index, partition] of partitions.entries()) {
      const meta = metas[index];
      if (!meta) throw new StoreUnavailableError(`partition ${partition.keys.partition} is not in Redis`);
      partition.at = { epoch: meta.epoch, seq: meta.seq };
      reread(partition);
    }
  }

  function handOut(partition: Followed, events: readonly RawEvent[]): void {
    const before = partition.at?.seq;
    const last = events.at(-1);
    if (!last) return;
    partition.at = { epoch: last.epoch, seq: last.seq };
    told.note(partition.keys.partition, last.epoch, last.seq);
    const dense = events.every(({ seq }, index) => seq === (before ?? 0) + 1 + index);
    if (!dense) {
      reread(partition);
      return;
    }
    for (const event of events) {
      for (const listener of partition.listeners.get(event.streamId) ?? []) listener.event(event);
      for (const listener of partition.toAll) listener.event(event);
    }
  }

  /** Ends the block of a read that doesn't know a partition yet; its own end would do so, seconds later. */
  async function interrupt(): Promise<void> {
    const during = reads;
    // The read may not have reached the server yet: asked again until it has ended.
    while (blocked && reads === during && !closed && clientId !== undefined) {
      const ended = await reader.redis.client('UNBLOCK', clientId).catch(() => 1);
      if (ended === 1) return;
      await delay(2);
    }
  }

  /** The partition of a listener that has just come in; `leave` forgets it where nobody is left. */
  function enter(number: number) {
    const keys = deps.keys[number];
    if (!keys) throw new Error(`there is no partition ${number}`);
    const partition: Followed = followed.get(number) ?? {
      ...{ keys, listeners: new Map(), toAll: new Set(), at: undefined },
    };
    followed.set(number, partition);
    const leave = () => {
      const empty = partition.listeners.size === 0 && partition.toAll.size === 0;
      if (empty && followed.get(number) === partition) followed.delete(number);
    };
    return { partition, leave };
  }

  function begun(partition: Followed, listener: TailListener): void {
    if (partition.at !== undefined || away) listener.reread();
    if (!running) void follow();
    else if (partition.at === undefined) void interrupt();
  }

  return {
    listen(streamId, listener) {
      const { partition, leave } = enter(partitionOf(streamId));
      const listeners = partition.listeners.get(streamId) ?? new Set();
      partition.listeners.set(streamId, listeners.add(listener));
      begun(partition, listener);
      return () => {
        listeners.delete(listener);
        if (listeners.size === 0) partition.listeners.delete(streamId);
        leave();
      };
    },
    listenToAll(number, listener) {
      const { partition, leave } = enter(number);
      partition.toAll.add(listener);
      begun(partition, listener);
      return () => {
        partition.toAll.delete(listener);
        leave();
      };
    },
    close() {
      closed = true;
      blocking.close();
    },
  };
}

function reread({ listeners, toAll }: Followed): void {
  for (const each of listeners.values()) for (const listener of each) listener.reread();
  for (const listener of toAll) listener.reread();
}
