import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { createEventStore } from '../../src/eventstore/store.ts';
import { MemoryGuardError } from '../../src/eventstore/types.ts';
import { ownRedis } from '../support/own-redis.ts';
import { append, newStream, openStore } from '../support/store.ts';
import { createWorld, type World } from '../support/world.ts';

async function world(servers?: { redisUrl: string }): Promise<World> {
  const made = await createWorld(servers);
  onTestFinished(() => made.dispose());
  return made;
}
const start = ({ redisUrl, db, prefix }: World, partitions = 4) =>
  createEventStore({ redisUrl, db, prefix, partitions, name: 'test', startWithinMs: 2_000 });

test('a first start writes the same store id to Redis and Postgres; the next finds it', async () => {
  const here = await world();
  const first = await openStore(here);
  const { store_id } = await here.db.selectFrom('installation').selectAll().executeTakeFirstOrThrow();
  for (const keys of first.keys) {
    expect(await first.reader.redis.hgetall(keys.meta)).toMatchObject({
      store: store_id,
      partitions: '4',
      epoch: '1',
      seq: '0',
      recovery: '0',
      evicted: '0',
      run: first.writer.runId(),
    });
  }
  const second = await openStore(here);
  expect(second.fence.trusted(0)).toMatchObject({ storeId: store_id, epoch: 1, recovery: 0 });
});

test('eight processes that start at once for the first time agree', async () => {
  const here = await world();
  const stores = await Promise.all(Array.from({ length: 8 }, () => openStore(here)));
  expect(new Set(stores.map((store) => store.fence.trusted(3)?.storeId)).size).toBe(1);
  expect(stores.map((store) => store.fencedBecause())).toEqual(Array(8).fill(undefined));
  const epochs = await here.db.selectFrom('epochs').select('epoch').execute();
  expect(epochs).toEqual(Array(4).fill({ epoch: 1 }));
});

test('a first start that was interrupted is completed by the next', async () => {
  const here = await world();
  const first = await openStore(here);
  const id = first.fence.trusted(0)?.storeId;
  await first.writer.redis.del(first.keys[2]?.meta ?? '');
  const next = await openStore(here);
  expect(next.fencedBecause()).toBeUndefined();
  expect(next.fence.trusted(2)?.storeId).toBe(id);
  expect(await next.commit({ partition: 2, appends: [append(newStream(2))] })).toMatchObject({
    kind: 'committed',
  });
});

test('another number of partitions is refused', async () => {
  const here = await world();
  await openStore(here);
  await expect(start(here, 8)).rejects.toThrow(/has 4 partitions, and PARTITIONS says 8/);
});

test("a Redis with another database's log is refused", async () => {
  const here = await world();
  await openStore(here);
  const other = await world();
  await expect(start({ ...other, prefix: here.prefix })).rejects.toThrow(/the database knows of none/);
});

test('a Redis that throws keys away is refused', async () => {
  const redis = await ownRedis(['--maxmemory', '100mb', '--maxmemory-policy', 'allkeys-lru']);
  await expect(start(await world({ redisUrl: redis.url }))).rejects.toThrow(
    /maxmemory-policy is allkeys-lru/,
  );
});

test('a replica is refused', async () => {
  const redis = await ownRedis(['--replicaof', '127.0.0.1', '1']);
  await expect(start(await world({ redisUrl: redis.url }))).rejects.toThrow(/replica/);
});

test('a Redis without an append-only file is warned of', async () => {
  const warnings: string[] = [];
  await openStore(await world(), { onWarning: (warning) => warnings.push(warning) });
  expect(warnings.join()).toMatch(/no append-only file/);
});

test('no Redis at all: it says so in time', async () => {
  const here = await world();
  await expect(start({ ...here, redisUrl: 'redis://127.0.0.1:1' })).rejects.toThrow(/does not answer within/);
});

test('Redis is full: commands are refused with nothing done, completions pass', async () => {
  const redis = await ownRedis(['--maxmemory', '30mb']);
  const here = await world({ redisUrl: redis.url });
  const store = await openStore(here);
  const other = new Redis(redis.url);
  onTestFinished(() => other.disconnect());
  // Redis itself is to refuse, before the guard has looked again.
  store.guard.close();
  for (
    let index = 0;
    (await other.set(`fill${index}`, 'x'.repeat(1_000_000)).catch(() => '')) === 'OK';
    index++
  );
  await other.config('SET', 'maxmemory', '20mb');
  const stream = newStream(0);
  const refused = store.commit({ partition: 0, appends: [append(stream)] });
  await expect(refused).rejects.toThrow(MemoryGuardError);
  await expect(refused).rejects.toThrow(/out of memory/);
  expect(await store.heads()).toEqual([0, 0, 0, 0]);
  expect(await store.writer.redis.exists(store.keys[0]?.state(stream) ?? '')).toBe(0);
  const passed = await store.commit({ partition: 0, appends: [append(stream)], memory: 'completion' });
  expect(passed).toMatchObject({ kind: 'committed' });
  await store.guard.refresh();
  expect(store.guard.refuses('start')).toBe(true);
});

test('at three quarters of the memory commands are refused before Redis has to, and pass again when there is room', async () => {
  const redis = await ownRedis(['--maxmemory', '20mb']);
  const store = await openStore(await world({ redisUrl: redis.url }));
  const { redis: client } = store.writer;
  for (let index = 0; index < 20 && store.guard.usedShare() < 0.76; index++) {
    await client.set(`ballast${index}`, 'x'.repeat(800_000));
    await store.guard.refresh();
  }
  expect(store.guard.refuses('start')).toBe(false);
  await expect(store.commit({ partition: 0, appends: [append(newStream(0))] })).rejects.toThrow(/too full/);
  await client.del(Array.from({ length: 20 }, (_, index) => `ballast${index}`));
  await store.guard.refresh();
  expect(await store.commit({ partition: 0, appends: [append(newStream(0))] })).toMatchObject({
    kind: 'committed',
  });
});
