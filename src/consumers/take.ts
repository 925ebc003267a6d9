import type { Redis } from 'ioredis';
import type { TakenJob } from '../commands/jobs/taken.ts';
import { runScript } from '../eventstore/connections.ts';
import { inOneWrite } from '../eventstore/gather-writes.ts';
import type { PartitionKeys } from '../eventstore/partitions.ts';
import { parseWork } from '../eventstore/work-text.ts';
import type { Lease } from './leases.ts';
import { readScript } from './scripts.ts';

export const takeScript = readScript(import.meta.url, './take.lua');

/** Highest first. Names are stored in keys: for life. */
export const PRIORITIES = ['high', 'normal', 'low'] as const;

export type JobToRun = TakenJob & {
  readonly type: string;
  readonly traceparent?: string;
  /** The job's state when it was taken, as Redis keeps it. */
  readonly state?: string;
  /** It was never given out before. */
  readonly isFresh: boolean;
  /** By `performance.now()`. */
  readonly takenAt: number;
};

/** Ids of the work streams by key. */
export type StreamIds = ReadonlyMap<string, string>;

export type Taken = {
  readonly jobs: readonly JobToRun[];
  /** Entries that are no work: left alone. */
  readonly malformed: readonly string[];
  readonly ids: StreamIds;
};

/** The work of one queue in one partition, to be taken under one lease. */
export type WorkStreams = {
  /**
   * Up to `count` new entries. Where that was all of them, and it is known how far each stream was read: ids to wait for more after,
   * of all of them; else none. `lease_lost`: not ours.
   */
  takeNew(count: number, lowestFirst: boolean): Promise<Taken | 'lease_lost'>;
  /** Up to `count` entries that were given out before and are not finished; goes on after `ids`. */
  takePending(count: number, after: StreamIds): Promise<Taken | 'lease_lost'>;
};

export function workStreams(redis: Redis, keys: PartitionKeys, queue: string, lease: Lease): WorkStreams {
  const streams = PRIORITIES.map((priority) => ({ priority, key: keys.work(queue, priority) }));
  /**
   * So far each stream was read for what is new. A reply tells nothing of those that brought nothing, and one who waits without a word
   * of them is not told what came there while he was busy, and was read meanwhile by a waker that others waited at.
   */
  const read = new Map<string, string>();

  async function take(order: typeof streams, count: number, args: readonly string[]) {
    const reply = await runScript(
      inOneWrite(redis),
      takeScript,
      [
        keys.lease(lease.group),
        keys.blocked(queue),
        keys.parkedLists(queue),
        keys.states,
        ...order.map(({ key }) => key),
      ],
      [lease.token, `p${keys.partition}`, count, ...args],
    );
    if (!Array.isArray(reply)) return 'lease_lost';
    const [entries, ids]: unknown[] = reply;
    const jobs: JobToRun[] = [];
    const malformed: string[] = [];
    const takenAt = performance.now();
    const isFresh = args[0] === 'new';
    const token = { group: lease.group, token: lease.token };
    const items = asArray(entries);
    for (let at = 0; at < items.length; at += 2) {
      const [index, entryId = '', text = ''] = String(items[at]).split('\n');
      const state = String(items[at + 1]);
      const stream = order[Number(index) - 1];
      if (!stream) throw new Error('take.lua named a stream that it was not given');
      if (isFresh) read.set(stream.key, entryId);
      const { priority } = stream;
      const taken = { queue, priority, entryId, lease: token, isFresh, takenAt };
      const work = parseWork(text);
      if (work) jobs.push({ ...taken, ...work, ...(state === '' ? {} : { state }) });
      else malformed.push(`${stream.key} ${entryId}`);
    }
    // Or the command would keep the texts until the next full collection, as `ScriptCall` says.
    items.length = 0;
    const told = new Map(
      asArray(ids).flatMap((id, index): [string, string][] => {
        const key = order[index]?.key;
        return key === undefined ? [] : [[key, String(id)]];
      }),
    );
    if (!isFresh) return { jobs, malformed, ids: told };
    for (const [key, id] of told) if (id !== '') read.set(key, id);
    const isAll = told.size > 0 && read.size === order.length;
    return { jobs, malformed, ids: new Map(isAll ? read : []) };
  }

  return {
    takeNew: (count, lowestFirst) => take(lowestFirst ? streams.toReversed() : streams, count, ['new']),
    takePending: (count, after) =>
      take(streams, count, ['pending', ...streams.map(({ key }) => after.get(key) ?? '0')]),
  };
}

function asArray(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
