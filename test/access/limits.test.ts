import { Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { createLimits, type LimitPolicy, type TakeLimit } from '../../src/access/limits.ts';
import { createHmacs } from '../../src/access/signing.ts';
import { createWorld, type World } from '../support/world.ts';

let world: World;
let client: Redis;
let take: TakeLimit;

beforeAll(async () => {
  world = await createWorld();
  client = new Redis(world.redisUrl);
  const hmac = createHmacs(Buffer.alloc(32, 1));
  take = createLimits({
    client,
    prefix: world.prefix,
    hmac,
    onOutage: (error) => expect.unreachable(String(error)),
  });
});
afterAll(async () => {
  client.disconnect();
  await world.dispose();
});

async function takes(policy: LimitPolicy, subject: string, times: number) {
  const verdicts = [];
  for (let i = 0; i < times; i++) {
    const verdict = await take(policy, subject);
    if (verdict === 'unknown') throw new Error('Redis is away');
    verdicts.push(verdict);
  }
  return verdicts;
}

test('a window allows its quota, then nothing until it ends, for each subject apart', async () => {
  const policy: LimitPolicy = { kind: 'window', name: 'w', limit: 3, windowSeconds: 3600 };
  const verdicts = await takes(policy, 'a', 5);
  // The window may end between two takes, once an hour.
  expect(verdicts.map((verdict) => verdict.allowed)).toEqual([true, true, true, false, false]);
  expect(verdicts.map((verdict) => verdict.remaining)).toEqual([2, 1, 0, 0, 0]);
  expect(verdicts[0]?.resetSeconds).toBeGreaterThan(0);
  expect(verdicts[0]?.resetSeconds).toBeLessThanOrEqual(3600);
  expect((await takes(policy, 'b', 1))[0]?.allowed).toBe(true);
});

test('a window that has ended gives its quota anew', async () => {
  const policy: LimitPolicy = { kind: 'window', name: 'short', limit: 1, windowSeconds: 1 };
  await takes(policy, 'a', 1);
  await expect.poll(async () => (await takes(policy, 'a', 1))[0]?.allowed, { timeout: 3000 }).toBe(true);
});

test('a bucket allows a burst, and then its pace', async () => {
  const policy: LimitPolicy = { kind: 'bucket', name: 'b', capacity: 3, refillPerSecond: 20 };
  const burst = await takes(policy, 'a', 4);
  expect(burst.slice(0, 3).map((verdict) => verdict.allowed)).toEqual([true, true, true]);
  await expect.poll(async () => (await takes(policy, 'a', 1))[0]?.allowed, { interval: 60 }).toBe(true);
  const slow: LimitPolicy = { kind: 'bucket', name: 's', capacity: 2, refillPerSecond: 0.01 };
  const refused = (await takes(slow, 'a', 3))[2];
  expect(refused).toMatchObject({ allowed: false, remaining: 0 });
  expect(refused?.resetSeconds).toBeGreaterThan(90);
  expect(refused?.resetSeconds).toBeLessThanOrEqual(100);
});

test('what is given back can be taken again, and never more than the quota', async () => {
  const window: LimitPolicy = { kind: 'window', name: 'back', limit: 2, windowSeconds: 3600 };
  const bucket: LimitPolicy = { kind: 'bucket', name: 'back', capacity: 2, refillPerSecond: 0.01 };
  for (const policy of [window, bucket]) {
    await takes(policy, 'a', 2);
    expect(await take(policy, 'a')).toMatchObject({ allowed: false });
    await take(policy, 'a', -1);
    expect((await takes(policy, 'a', 2)).map(({ allowed }) => allowed)).toEqual([true, false]);
    await take(policy, 'a', -10);
    expect((await takes(policy, 'a', 3)).map(({ allowed }) => allowed)).toEqual([true, true, false]);
  }
});

test('what counts as several is allowed while there is anything left, and uses that up', async () => {
  const window: LimitPolicy = { kind: 'window', name: 'several', limit: 5, windowSeconds: 3600 };
  const bucket: LimitPolicy = { kind: 'bucket', name: 'several', capacity: 5, refillPerSecond: 0.01 };
  for (const policy of [window, bucket]) {
    expect(await take(policy, 'a', 4)).toMatchObject({ allowed: true, remaining: 1 });
    expect(await take(policy, 'a', 4)).toMatchObject({ allowed: true, remaining: 0 });
    expect(await take(policy, 'a')).toMatchObject({ allowed: false });
  }
});

test('many at once get no more than the quota', async () => {
  const policy: LimitPolicy = { kind: 'window', name: 'race', limit: 10, windowSeconds: 3600 };
  const verdicts = await Promise.all(Array.from({ length: 50 }, () => take(policy, 'a')));
  expect(verdicts.filter((verdict) => verdict !== 'unknown' && verdict.allowed)).toHaveLength(10);
});

test('no key holds the subject, and every key goes away by itself', async () => {
  const policy: LimitPolicy = { kind: 'bucket', name: 'k', capacity: 2, refillPerSecond: 1 };
  await takes(policy, 'ada@example.org', 1);
  const keys = await client.keys(`${world.prefix}:limit:*`);
  expect(keys.length).toBeGreaterThan(0);
  expect(keys.join()).not.toContain('example.org');
  for (const key of keys) expect(await client.pttl(key)).not.toBe(-1);
});

test('with Redis away the answer is that nobody knows, and somebody is told', async () => {
  const away = new Redis({ port: 1, retryStrategy: null, enableOfflineQueue: false, lazyConnect: true });
  away.on('error', () => undefined);
  const errors: unknown[] = [];
  const hmac = createHmacs(Buffer.alloc(32, 1));
  const unknown = createLimits({ client: away, prefix: 'x', hmac, onOutage: (error) => errors.push(error) });
  expect(await unknown({ kind: 'window', name: 'w', limit: 1, windowSeconds: 1 }, 'a')).toBe('unknown');
  expect(errors).toHaveLength(1);
  away.disconnect();
});
