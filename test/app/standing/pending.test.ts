import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { readPending } from '../../../src/app/standing/pending.ts';
import { createKeys } from '../../../src/eventstore/partitions.ts';
import { createWorld } from '../../support/world.ts';

test('of each lane it is told how much its owners have taken and not finished, and how old the oldest is', async () => {
  const world = await createWorld();
  const redis = new Redis(world.redisUrl);
  onTestFinished(async () => {
    redis.disconnect();
    await world.dispose();
  });
  const keys = createKeys(world.prefix, 4);
  const add = async (partition: number, priority: 'high' | 'normal', id: string) => {
    const stream = keys[partition]?.work('email', priority) ?? '';
    await redis.xadd(stream, id, 'w', 'job-1 email.send 0 - ');
    return stream;
  };
  await add(1, 'normal', '5000-0');
  const early = await add(1, 'high', '3000-0');
  await add(2, 'normal', '1000-0');
  expect((await readPending(redis, keys)).get('lane:email')).toEqual({ count: 0 });
  for (const partition of [1, 2]) {
    for (const priority of ['high', 'normal'] as const) {
      await redis.xgroup('CREATE', keys[partition]?.work('email', priority) ?? '', 'lane', '0', 'MKSTREAM');
    }
  }
  const take = (stream: string) =>
    redis.xreadgroup('GROUP', 'lane', 'owner', 'COUNT', 1, 'STREAMS', stream, '>');
  await take(early);
  await take(keys[1]?.work('email', 'normal') ?? '');
  const found = await readPending(redis, keys);
  // What nobody has taken yet waits; it is not pending.
  expect(found.get('lane:email')).toEqual({ count: 2, since: 3000 });
  expect(found.get('lane:default')).toEqual({ count: 0 });
  await redis.xack(early, 'lane', '3000-0');
  expect((await readPending(redis, keys)).get('lane:email')).toEqual({ count: 1, since: 5000 });
});
