import type { Redis } from 'ioredis';
import type { Share } from './leases.ts';

/**
 * Who would rather not own a share for a while: its code does not know an event that is there. Others leave
 * it out when they compute who should own that share, so that newer code gets it.
 */
export type Yields = {
  yield(share: Share, forMs: number): Promise<void>;
  /** Members that yield each share now, by `shareKey`. Nearly always empty. */
  current(): Promise<Map<string, Set<string>>>;
};

export function shareKey({ group, partition }: Share): string {
  return `${group} ${partition}`;
}

/** Kept in one zset per role: `<group> <partition> <member>` → until when, by Redis' clock. */
export function createYields(redis: Redis, prefix: string, role: string, member: string): Yields {
  const key = `${prefix}:yields:${role}`;
  const now = async () => {
    const [seconds, micros] = await redis.time();
    return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
  };
  return {
    async yield(share, forMs) {
      await redis.zadd(key, (await now()) + forMs, `${shareKey(share)} ${member}`);
    },
    async current() {
      const yields = new Map<string, Set<string>>();
      if ((await redis.exists(key)) === 0) return yields;
      const at = await now();
      await redis.zremrangebyscore(key, '-inf', at);
      for (const entry of await redis.zrangebyscore(key, at, '+inf')) {
        const [group, partition, ...rest] = entry.split(' ');
        const share = `${group} ${partition}`;
        yields.set(share, (yields.get(share) ?? new Set()).add(rest.join(' ')));
      }
      return yields;
    },
  };
}
