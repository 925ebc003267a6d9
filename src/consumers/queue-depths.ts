import type { Redis } from 'ioredis';
import type { PartitionKeys } from '../eventstore/partitions.ts';
import { StoreUnavailableError } from '../eventstore/types.ts';
import { parseWork } from '../eventstore/work-text.ts';
import { PRIORITIES } from './take.ts';

export type QueueDepth = {
  /** Due, and in no worker's hands: those that are parked among them. */
  readonly waiting: number;
  /** Of these, the ones behind another job of their ordering key. */
  readonly parked: number;
  /** In the hands of workers. */
  readonly running: number;
  /** When the oldest that could be begun became due, ms since 1970. */
  readonly oldest?: number;
};

const EMPTY: QueueDepth = { waiting: 0, parked: 0, running: 0 };

/**
 * How much is in each queue, from the work streams themselves: no read model is that fresh, and counting rows would
 * take longer the more of them wait. Throws `StoreUnavailableError`.
 */
export async function queueDepths(
  redis: Redis,
  partitions: readonly PartitionKeys[],
  queues: readonly string[],
): Promise<ReadonlyMap<string, QueueDepth>> {
  try {
    const found = await Promise.all(
      partitions.flatMap((keys) => queues.map((queue) => depthIn(redis, keys, queue))),
    );
    return new Map(
      queues.map((queue, index) => [
        queue,
        found.filter((_, at) => at % queues.length === index).reduce(together, EMPTY),
      ]),
    );
  } catch (error) {
    throw new StoreUnavailableError('the queues cannot be read now', { cause: error });
  }
}

function together(one: QueueDepth, other: QueueDepth): QueueDepth {
  const ages = [one.oldest, other.oldest].filter((age) => age !== undefined);
  return {
    waiting: one.waiting + other.waiting,
    parked: one.parked + other.parked,
    running: one.running + other.running,
    ...(ages.length > 0 ? { oldest: Math.min(...ages) } : {}),
  };
}

async function depthIn(redis: Redis, keys: PartitionKeys, queue: string): Promise<QueueDepth> {
  const streams = PRIORITIES.map((priority) => keys.work(queue, priority));
  const first = redis.pipeline().hkeys(keys.blocked(queue));
  for (const stream of streams) first.xlen(stream).xinfo('GROUPS', stream);
  const [lanes, ...sizes] = await answersOf(first);
  const groups = streams.map((_, index) => groupOf(sizes[2 * index + 1]));

  const held = asArray(lanes).map(String);
  const second = redis.pipeline();
  for (const [index, stream] of streams.entries()) {
    second.xrange(stream, `(${groups[index]?.delivered ?? '0-0'}`, '+', 'COUNT', 1);
  }
  for (const lane of held) second.llen(keys.parked(queue, lane));
  const rest = await answersOf(second);

  const depth = streams.map((_, index): QueueDepth => {
    const { pending = 0 } = groups[index] ?? {};
    const due = dueOf(rest[index]);
    const waiting = Math.max(0, Number(sizes[2 * index]) - pending);
    return { waiting, parked: 0, running: pending, ...(due === undefined ? {} : { oldest: due }) };
  });
  const parked = rest.slice(streams.length).reduce<number>((sum, length) => sum + Number(length), 0);
  return [...depth, { waiting: parked, parked, running: 0 }].reduce(together, EMPTY);
}

/** A stream that nobody has looked at yet has no group: its error counts as an empty answer. */
async function answersOf(pipeline: ReturnType<Redis['pipeline']>): Promise<unknown[]> {
  const answers = (await pipeline.exec()) ?? [];
  return answers.map(([error, answer]) => {
    if (error && !error.message.startsWith('ERR no such key')) throw error;
    return error ? [] : answer;
  });
}

/** Of the one group that work streams have. */
function groupOf(answer: unknown): { pending: number; delivered: string } | undefined {
  const [fields] = asArray(answer);
  const list = asArray(fields);
  const field = (name: string) => list[list.indexOf(name) + 1];
  return list.length === 0
    ? undefined
    : { pending: Number(field('pending')), delivered: String(field('last-delivered-id')) };
}

function dueOf(answer: unknown): number | undefined {
  const [entry] = asArray(answer);
  const [, fields] = asArray(entry);
  const list = asArray(fields);
  return parseWork(String(list[1]))?.dueAt;
}

function asArray(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}
