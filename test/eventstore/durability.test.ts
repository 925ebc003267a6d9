import { expect, onTestFinished, test, vi } from 'vitest';
import { connectSubscriber, connectWriter } from '../../src/eventstore/connections.ts';
import { createDurability } from '../../src/eventstore/durability.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { createCheckpointWaits } from '../../src/eventstore/waits.ts';
import { copyToLedger } from '../support/ledger.ts';
import { ownRedis } from '../support/own-redis.ts';
import { append, newStream, openStore } from '../support/store.ts';
import { createWorld, type World } from '../support/world.ts';

async function begin(servers: { redisUrl?: string } = {}) {
  const world = await createWorld(servers);
  onTestFinished(() => world.dispose());
  const store = await openStore(world);
  const committed = async () => {
    const outcome = await store.commit({ partition: 0, appends: [append(newStream(0))] });
    if (outcome.kind !== 'committed') throw new Error(outcome.kind);
    return outcome.position;
  };
  return { world, store, committed };
}

async function durability(store: OpenEventStore, { redisUrl: url, db, prefix }: World, timeoutMs: number) {
  const connection = connectWriter({ url, name: 'test-wait', replyWithinMs: timeoutMs + 1_000 });
  const subscriber = connectSubscriber({ url, name: 'test' });
  const waits = createCheckpointWaits({ subscriber, db, prefix, pollMs: 20 });
  onTestFinished(() => {
    waits.close();
    connection.close();
    subscriber.disconnect();
  });
  await connection.whenReady(5_000);
  return createDurability({ connection, waits, timeoutMs, trusted: store.fence.trusted });
}

test('memory: nothing more is waited for', async () => {
  const { world, store, committed } = await begin();
  expect(await (await durability(store, world, 100)).awaitDurability(await committed(), 'memory')).toBe(true);
});

test('ledger: answered once the event is in Postgres, and honest when it is not in time', async () => {
  const { world, store, committed } = await begin();
  const { awaitDurability } = await durability(store, world, 300);
  const position = await committed();
  expect(await awaitDurability(position, 'ledger')).toBe(false);
  const waiting = awaitDurability(position, 'ledger');
  await copyToLedger(world, store, 0);
  expect(await waiting).toBe(true);
});

test('replicated: reached with a replica that follows, not with one that has stopped', async () => {
  const master = await ownRedis(['--repl-diskless-sync-delay', '0']);
  const replica = await ownRedis(['--replicaof', '127.0.0.1', new URL(master.url).port]);
  const { world, store, committed } = await begin({ redisUrl: master.url });
  await vi.waitFor(async () => expect(await store.reader.redis.info('replication')).toMatch(/state=online/), {
    timeout: 15_000,
    interval: 50,
  });
  const { awaitDurability } = await durability(store, world, 10_000);
  const positions = await Promise.all(Array.from({ length: 20 }, committed));
  const all = await Promise.all(positions.map((position) => awaitDurability(position, 'replicated')));
  expect(all).toEqual(Array(20).fill(true));

  replica.pause();
  onTestFinished(() => replica.resume());
  const position = await committed();
  // A connection of its own, that has never written: on its own its WAIT would answer 1 at once.
  const fresh = await durability(store, world, 500);
  expect(await fresh.awaitDurability(position, 'replicated')).toBe(false);
});

test('replicated: without a replica it is never reached', async () => {
  const redis = await ownRedis();
  const { world, store, committed } = await begin({ redisUrl: redis.url });
  expect(await (await durability(store, world, 100)).awaitDurability(await committed(), 'replicated')).toBe(
    false,
  );
});

test('replicated: the replicas of a server that took over do not speak for what only its predecessor has', async () => {
  const old = await ownRedis();
  const { world, store, committed } = await begin({ redisUrl: old.url });
  const promoted = await ownRedis();
  await ownRedis(['--replicaof', '127.0.0.1', new URL(promoted.url).port, '--repl-diskless-sync-delay', '0']);
  const { awaitDurability } = await durability(store, { ...world, redisUrl: promoted.url }, 2_000);
  const direct = connectWriter({ url: promoted.url, name: 'test' });
  onTestFinished(() => direct.close());
  await direct.whenReady(5_000);
  await vi.waitFor(async () => expect(await direct.redis.wait(1, 100)).toBe(1), 15_000);
  const position = await committed();
  expect(await awaitDurability(position, 'replicated')).toBe(false);
  // In the ledger it is safer than in a replica.
  await copyToLedger(world, store, 0);
  expect(await awaitDurability(position, 'replicated')).toBe(true);
});
