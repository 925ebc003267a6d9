import type { Connection } from '../eventstore/connections.ts';
import type { StreamIds } from './take.ts';

/** How long a wait blocks; its end is also the time to look for what no wake told of. */
export const WAKE_BLOCK_MS = 5_000;
const ENTRIES = 100;

/** Tells the lanes of one partition when there may be something to take. It reads only to be woken. */
export type Waker = {
  /** Resolves when a stream has something after its id in `ids`, or after a few seconds. Never rejects. */
  wait(ids: StreamIds): Promise<void>;
  close(): void;
};

/**
 * One blocking XREAD over all work streams of a partition, shared by its lanes. Who waits says how far
 * it has read each of its streams: what is added after that wakes, what was there before does not. Of a stream left out nothing
 * wakes that the read has passed while others waited.
 *
 * @param blocking for this alone; closed by `close`
 * @param streams keys of every stream whose lanes may wait
 */
export function openWaker(blocking: Connection, streams: readonly string[]): Waker {
  // Every stream from the beginning: a lane that begins to wait while a read is under way must be in that read.
  const known = new Map(streams.map((key) => [key, '0-0']));
  let sleepers: (() => void)[] = [];
  let reading = false;
  let closed = false;

  async function read(): Promise<void> {
    await blocking.whenReady(WAKE_BLOCK_MS);
    const reply = await blocking.redis.xread(
      ...(['COUNT', ENTRIES, 'BLOCK', WAKE_BLOCK_MS] as const),
      ...(['STREAMS', ...streams, ...streams.map((key) => known.get(key) ?? '0-0')] as const),
    );
    for (const [key, entries] of reply ?? []) {
      const last = entries.at(-1)?.[0];
      if (last) known.set(key, last);
    }
  }

  async function run(): Promise<void> {
    reading = true;
    while (sleepers.length > 0 && !closed) {
      await read().catch(() => {}); // a lost connection wakes as well: who is woken looks for himself
      const woken = sleepers;
      sleepers = [];
      for (const wake of woken) wake();
      await new Promise(setImmediate);
    }
    reading = false;
  }

  return {
    wait(ids) {
      let missed = false;
      for (const [key, id] of ids) {
        const seen = known.get(key);
        if (seen !== undefined && isAfter(seen, id)) missed = true;
        known.set(key, id);
      }
      if (missed || closed) return Promise.resolve();
      return new Promise((resolve) => {
        sleepers.push(resolve);
        if (!reading) void run();
      });
    },
    close() {
      closed = true;
      blocking.close();
      for (const wake of sleepers) wake();
      sleepers = [];
    },
  };
}

/** Whether one entry id lies after another. Ids are `<ms>-<n>`. */
export function isAfter(id: string, other: string): boolean {
  const [ms = 0n, n = 0n] = id.split('-').map(BigInt);
  const [otherMs = 0n, otherN = 0n] = other.split('-').map(BigInt);
  return ms > otherMs || (ms === otherMs && n > otherN);
}
