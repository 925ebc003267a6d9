import { expect, onTestFinished, test, vi } from 'vitest';
import { acceptLosses, openLosses } from '../../src/eventstore/losses.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { StoreFencedError } from '../../src/eventstore/types.ts';
import { copyToLedger, epochsOf } from '../support/ledger.ts';
import { ownRedis } from '../support/own-redis.ts';
import { startProxy } from '../support/proxy.ts';
import { append, newStream, openStore } from '../support/store.ts';
import { createWorld } from '../support/world.ts';

async function begin() {
  const redis = await ownRedis();
  const world = await createWorld({ redisUrl: redis.url });
  onTestFinished(() => world.dispose());
  const proxy = await startProxy(redis.url);
  const open = (redisUrl = redis.url) => openStore(world, { fenceIntervalMs: 50, redisUrl });
  /** As after a power loss: Redis has what it had when `older` was saved, and comes up with it. */
  const loseSince = async (older: string) => {
    await redis.stop();
    await redis.saveAof('newer');
    await redis.restoreAof(older);
    await redis.start();
  };
  return { redis, world, proxy, open, loseSince, store: await open() };
}
const isOpen = (store: OpenEventStore) =>
  vi.waitFor(() => expect(store.fencedBecause()).toBeUndefined(), 15_000);
const isStopped = (store: OpenEventStore, reason: RegExp) =>
  vi.waitFor(() => expect(store.fencedBecause()).toMatch(reason), 15_000);
const one = (store: OpenEventStore, partition = 0) =>
  store.commit({ partition, appends: [append(newStream(partition))] });

test('Redis comes back without events that it had acknowledged, and that the ledger never had: commits stop everywhere, and go on once it has them again', async () => {
  const { redis, world, open, store, loseSince } = await begin();
  const other = await open();
  await one(store);
  await redis.saveAof('older');
  await one(store);
  await one(store);
  await loseSince('older');

  const reason = /Events 2 to 3 of partition 0 were acknowledged or read, and Redis came back without them/;
  await Promise.all([isStopped(store, reason), isStopped(other, reason)]);
  const later = await open();
  expect(later.fencedBecause()).toMatch(reason);
  for (const each of [store, other, later]) await expect(one(each)).rejects.toThrow(StoreFencedError);
  await expect(one(store, 1)).rejects.toThrow(StoreFencedError);

  await redis.stop();
  await redis.restoreAof('newer');
  await redis.start();
  await Promise.all([store, other, later].map(isOpen));
  expect(await one(later)).toMatchObject({ kind: 'committed', position: { seq: 4 } });
  // Who was answered with a position in between can wait for it again.
  const first = world.db
    .selectFrom('epochs')
    .select('last_seq')
    .where('partition', '=', 0)
    .where('epoch', '=', 1);
  expect(await first.executeTakeFirst()).toEqual({ last_seq: 3 });
});

test('One process knows of events that are gone, and comes after another has trusted the server: commits stop for both', async () => {
  const { redis, proxy, open, store, loseSince } = await begin();
  const knowing = await open(proxy.url);
  await redis.saveAof('older');
  await one(knowing, 2);
  proxy.refuse();
  await loseSince('older');
  await isOpen(store);
  expect(await one(store, 2)).toMatchObject({ position: { epoch: 2, seq: 1 } });

  proxy.accept();
  const reason = /Event 1 of partition 2 .* Redis came back without/;
  await Promise.all([isStopped(knowing, reason), isStopped(store, reason)]);
});

test('What was only read is missed, too', async () => {
  const { redis, open, store, loseSince } = await begin();
  await redis.saveAof('older');
  const reading = await open();
  await one(store);
  await store.close();
  reading.told.note(0, 1, 1);
  await loseSince('older');
  await isStopped(reading, /Event 1 of partition 0 /);
});

test('A loss that somebody accepts is none any more, for whoever knew of it: commits go on in a new epoch', async () => {
  const { redis, world, proxy, open, store, loseSince } = await begin();
  const late = await open(proxy.url);
  await one(store);
  await redis.saveAof('older');
  await one(store);
  await one(late);
  proxy.refuse();
  await loseSince('older');
  await isStopped(store, /came back without/);

  expect(await openLosses(world.db)).toMatchObject([{ partition: 0, epoch: 1, lastSeq: 1, seq: 2 }]);
  await acceptLosses(world.db, await openLosses(world.db), { by: 'a test', reason: 'it is one' });
  expect(await openLosses(world.db)).toEqual([]);
  await isOpen(store);
  expect(await one(store)).toMatchObject({ kind: 'committed', position: { epoch: 2, seq: 2 } });
  // It was told of more of the same epoch: that is the same loss.
  proxy.accept();
  await isOpen(late);
  expect(await one(late)).toMatchObject({ kind: 'committed', position: { epoch: 2, seq: 3 } });
  await isOpen(store);
  expect(await epochsOf(world)).toEqual([
    { epoch: 1, last_seq: 1 },
    { epoch: 2, last_seq: null },
  ]);
});

test('What was found to be missing after somebody had looked is not accepted with what he saw', async () => {
  const { world, store } = await begin();
  const loss = (partition: number, seq: number) => ({ partition, epoch: 7, seq, last_seq: 1 });
  await world.db
    .insertInto('losses')
    .values([loss(0, 3), loss(1, 3)])
    .execute();
  const seen = await openLosses(world.db);
  await world.db.updateTable('losses').set({ seq: 9 }).where('partition', '=', 1).execute();
  await world.db.insertInto('losses').values(loss(2, 3)).execute();
  await acceptLosses(world.db, seen, { by: 'a test', reason: 'it is one' });
  expect(await openLosses(world.db)).toMatchObject([
    { partition: 1, seq: 9 },
    { partition: 2, seq: 3 },
  ]);
  await store.close();
});

test('Where nothing is missing nothing is lost, however often Redis is restarted', async () => {
  const { redis, world, store } = await begin();
  for (let times = 0; times < 3; times++) {
    await Promise.all([0, 1, 2, 3].map((partition) => one(store, partition)));
    await copyToLedger(world, store, 0);
    await redis.kill();
    await isStopped(store, /not reachable/);
    await redis.start();
    await isOpen(store);
  }
  expect(await world.db.selectFrom('losses').selectAll().execute()).toEqual([]);
});
