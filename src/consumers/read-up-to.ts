import type { Redis } from 'ioredis';
import type { Standing } from './reader.ts';

/** Told every other second by whoever owns a share; older than this, nobody knows. */
const KEPT_SECONDS = 30;

/** Hash of a group: partition → seq of the last event that its owner has read. */
const keyOf = (prefix: string, group: string) => `${prefix}:read:{${group}}`;

/**
 * Says how far groups have read. Their checkpoints say less where a group writes one only now and then: a reactor that has
 * nothing to react to is not behind.
 */
export async function tellReadUpTo(
  redis: Redis,
  prefix: string,
  standings: readonly Standing[],
): Promise<void> {
  const pipeline = redis.pipeline();
  for (const { group, partition, checkpoint } of standings) {
    pipeline.hset(keyOf(prefix, group), String(partition), checkpoint.seq);
  }
  for (const group of new Set(standings.map((each) => each.group))) {
    pipeline.expire(keyOf(prefix, group), KEPT_SECONDS);
  }
  await pipeline.exec();
}

/** What was told of a group lately, by partition. */
export async function readUpTo(redis: Redis, prefix: string, group: string): Promise<Map<number, number>> {
  const told = await redis.hgetall(keyOf(prefix, group));
  return new Map(Object.entries(told).map(([partition, seq]) => [Number(partition), Number(seq)]));
}
