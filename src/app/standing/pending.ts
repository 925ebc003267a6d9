import type { Redis } from 'ioredis';
import { PRIORITIES } from '../../consumers/take.ts';
import { laneGroup } from '../../consumers/workers.ts';
import { JobQueue } from '../../domain/jobs/events.ts';
import type { PartitionKeys } from '../../eventstore/partitions.ts';

/** Of a lane: what its owners have taken and not finished, in all partitions. */
export type Pending = {
  readonly count: number;
  /** When the oldest of it came into its stream, ms since 1970 by Redis' clock. */
  readonly since?: number;
};

/** By group, in one round trip. Throws what the connection throws. */
export async function readPending(
  redis: Redis,
  keys: readonly PartitionKeys[],
): Promise<ReadonlyMap<string, Pending>> {
  const asked = JobQueue.enum.flatMap((queue) =>
    keys.flatMap((each) => PRIORITIES.map((priority) => ({ queue, stream: each.work(queue, priority) }))),
  );
  const pipeline = redis.pipeline();
  for (const { stream } of asked) pipeline.xpending(stream, 'lane');
  const answers = (await pipeline.exec()) ?? [];
  const found = new Map<string, Pending>(JobQueue.enum.map((queue) => [laneGroup(queue), { count: 0 }]));
  for (const [index, { queue }] of asked.entries()) {
    const [error, answer] = answers[index] ?? [];
    // Nobody has looked at that stream yet.
    if (error?.message.startsWith('NOGROUP')) continue;
    if (error) throw error;
    const group = laneGroup(queue);
    found.set(group, together(found.get(group) ?? { count: 0 }, pendingIn(answer)));
  }
  return found;
}

/** XPENDING: how many, the smallest id, the largest, by whom. */
function pendingIn(answer: unknown): Pending {
  const [count, smallest]: unknown[] = Array.isArray(answer) ? answer : [];
  const since = typeof smallest === 'string' ? Number(smallest.split('-')[0]) : undefined;
  return { count: Number(count ?? 0), ...(since === undefined ? {} : { since }) };
}

function together(one: Pending, other: Pending): Pending {
  const times = [one.since, other.since].filter((since) => since !== undefined);
  return {
    count: one.count + other.count,
    ...(times.length === 0 ? {} : { since: Math.min(...times) }),
  };
}
