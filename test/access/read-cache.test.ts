import { randomBytes } from 'node:crypto';
import { Redis } from 'ioredis';
import { afterAll, expect, inject, it, vi } from 'vitest';
import { createReadCache, forgetAllReads, forgetReads, type Look } from '../../src/access/read-cache.ts';

const redis = new Redis(inject('redisUrl'));
const prefix = `cache-${randomBytes(6).toString('hex')}`;
const TTL_MS = 2_000;
const cache = createReadCache(redis, prefix, TTL_MS);
const entry = { mark: { epoch: 2, seq: 7 }, text: '{"some":"thing or\nother"}' };
afterAll(async () => {
  const keys = await redis.keys(`${prefix}:*`);
  if (keys.length > 0) await redis.unlink(keys);
  redis.disconnect();
});

/** Asks twice: what is asked for once is not worth keeping. */
async function lease(name: string): Promise<string> {
  expect(await cache.look(name)).toBe('first');
  return leaseOf(await cache.look(name));
}

function leaseOf(look: Look): string {
  if (typeof look === 'string' || !('lease' in look))
    throw new Error(`there is no lease: ${JSON.stringify(look)}`);
  return look.lease;
}

it('what was read is found again, as of when it was read, until it runs out', async () => {
  await cache.keep('a', await lease('a'), entry);
  expect(await cache.look('a')).toEqual(entry);
  expect(await redis.pttl(`${prefix}:read:a`)).toBeLessThanOrEqual(TTL_MS);
  await vi.waitFor(async () => expect(await cache.look('a')).toBe('first'), 10_000);
});

it('what was read before it changed is not kept once the change was told', async () => {
  const late = await lease('b');
  await forgetReads(redis, prefix, ['b']);
  await cache.keep('b', late, entry);
  const next = await lease('b');
  // The late one keeps nothing in the place of the next one's either.
  await cache.keep('b', late, entry);
  await cache.keep('b', next, { ...entry, mark: { epoch: 2, seq: 8 } });
  expect(await cache.look('b')).toMatchObject({ mark: { seq: 8 } });
  await forgetReads(redis, prefix, ['b', 'never there']);
  expect(await cache.look('b')).toBe('first');
});

it('all that was read of one read model is taken away at once, with the leases of who is reading, and nothing else', async () => {
  await cache.keep('jobs[1]:a', await lease('jobs[1]:a'), entry);
  const late = await lease('jobs[1]:b');
  await cache.keep('jobs1:a', await lease('jobs1:a'), entry);
  await forgetAllReads(redis, prefix, 'jobs[1]:');
  await cache.keep('jobs[1]:b', late, entry);
  expect(await cache.look('jobs[1]:a')).toBe('first');
  expect(await cache.look('jobs[1]:b')).toBe('first');
  expect(await cache.look('jobs1:a')).toEqual(entry);
});

it('one reads what is not there, the others are told that somebody does, and none waits for who never comes back', async () => {
  await lease('c');
  expect(await cache.look('c')).toBe('busy');
  await vi.waitFor(async () => expect(await cache.look('c')).toBe('first'), 10_000);
});

it('what is not to be kept, or is too large, leaves nothing behind', async () => {
  await cache.keep('d', await lease('d'), undefined);
  await cache.keep('d', await lease('d'), { ...entry, text: 'x'.repeat(20_000) });
  expect(await cache.look('d')).toBe('first');
});

it('where Redis has no room nothing new is kept, and what is there goes on being found', async () => {
  let room = true;
  const careful = createReadCache(redis, prefix, TTL_MS, () => room);
  await careful.keep('f', await lease('f'), entry);
  room = false;
  expect(await careful.look('f')).toEqual(entry);
  expect([await careful.look('g'), await careful.look('g')]).toEqual(['busy', 'busy']);
  expect(await redis.exists(`${prefix}:read:g`)).toBe(0);
});

it('while Redis is away it says so at once', async () => {
  const nobody = new Redis({
    port: 1,
    lazyConnect: true,
    enableOfflineQueue: false,
    retryStrategy: () => null,
  });
  nobody.on('error', () => {});
  const away = createReadCache(nobody, prefix, TTL_MS);
  expect(await away.look('e')).toBe('away');
  await away.keep('e', '?lease', entry);
  await forgetReads(nobody, prefix, ['e']);
  nobody.disconnect();
});
