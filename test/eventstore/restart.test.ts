import { sql } from 'kysely';
import { expect, onTestFinished, test, vi } from 'vitest';
import { LEDGER_GROUP, openCheckpoint } from '../../src/eventstore/checkpoints.ts';
import { connectSubscriber } from '../../src/eventstore/connections.ts';
import { openEpoch } from '../../src/eventstore/installation.ts';
import { readLogAfter } from '../../src/eventstore/log.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { OutcomeUnknownError, StoreFencedError, StoreUnavailableError } from '../../src/eventstore/types.ts';
import { createCheckpointWaits } from '../../src/eventstore/waits.ts';
import { copyToLedger, epochsOf } from '../support/ledger.ts';
import { ownRedis } from '../support/own-redis.ts';
import { append, atVersion, countFold, minted, newStream, openStore } from '../support/store.ts';
import { createWorld } from '../support/world.ts';

async function begin() {
  const redis = await ownRedis();
  const world = await createWorld({ redisUrl: redis.url });
  onTestFinished(() => world.dispose());
  const open = () => openStore(world, { fenceIntervalMs: 50 });
  return { redis, world, open, store: await open() };
}
const keysOf = (store: OpenEventStore, partition: number) => {
  const keys = store.keys[partition];
  if (!keys) throw new Error('no such partition');
  return keys;
};
const eventsOf = (store: OpenEventStore, partition: number) =>
  readLogAfter(store.reader.redis, keysOf(store, partition), { epoch: 0, seq: 0 }, 100_000);
const open = (store: OpenEventStore) =>
  vi.waitFor(() => expect(store.fencedBecause()).toBeUndefined(), 15_000);
const stopped = (store: OpenEventStore, reason: RegExp) =>
  vi.waitFor(() => expect(store.fencedBecause()).toMatch(reason), 15_000);
const one = (store: OpenEventStore, partition = 0) =>
  store.commit({ partition, appends: [append(newStream(partition))] });

test('Redis is killed and started again under load: nothing acknowledged is missing, nothing is there twice, and it goes on', async () => {
  const { redis, store, open: another } = await begin();
  const second = await another();
  const acknowledged: string[] = [];
  const surprises: unknown[] = [];
  let going = true;
  onTestFinished(() => {
    going = false;
  });
  const load = Promise.all(
    Array.from({ length: 12 }, async (_, index) => {
      const from = index % 2 === 0 ? store : second;
      while (going) {
        const event = append(newStream(index % 4));
        try {
          const outcome = await from.commit({ partition: index % 4, appends: [event] });
          if (outcome.kind === 'committed') acknowledged.push(String(event.events[0]?.id));
          else surprises.push(outcome);
        } catch (error) {
          const expected = error instanceof StoreUnavailableError || error instanceof OutcomeUnknownError;
          if (!expected) surprises.push(error);
          await new Promise((resolve) => setTimeout(resolve, 5));
        }
      }
    }),
  );
  await vi.waitFor(() => expect(acknowledged.length).toBeGreaterThan(200), 10_000);
  await redis.kill();
  await stopped(store, /not reachable/);
  await expect(one(store)).rejects.toThrow(StoreUnavailableError);
  await redis.start();
  await Promise.all([open(store), open(second)]);
  const before = acknowledged.length;
  await vi.waitFor(() => expect(acknowledged.length).toBeGreaterThan(before + 200), 10_000);
  going = false;
  await load;

  expect(surprises).toEqual([]);
  const stored = (await Promise.all([0, 1, 2, 3].map((partition) => eventsOf(store, partition)))).flat();
  const ids = new Set(stored.map(({ id }) => String(id)));
  expect(ids.size).toBe(stored.length);
  expect(acknowledged.filter((id) => !ids.has(id))).toEqual([]);
  expect(new Set(stored.map(({ epoch }) => epoch))).toEqual(new Set([1, 2]));
});

test('after a restart one process reconciles: older owners are fenced, leases are gone, epochs are written down', async () => {
  const { redis, world, store, open: another } = await begin();
  const second = await another();
  const stream = newStream(2);
  await store.commit({ partition: 2, appends: [append(stream, minted, 3)] });
  await copyToLedger(world, store, 2);
  await openCheckpoint(world.db, 'projection:jobs@2', 2, 5);
  await sql`SELECT setval('fencing_tokens', 100)`.execute(world.db);
  const lease = keysOf(store, 2).lease('lane:default');
  await store.writer.redis.hset(lease, { owner: 'w1', token: 5 });

  await redis.stop();
  await stopped(store, /not reachable/);
  await redis.start();
  await Promise.all([open(store), open(second), store.reader.whenReady(5_000)]);

  expect(await store.reader.redis.exists(lease)).toBe(0);
  const checkpoints = await world.db
    .selectFrom('checkpoints')
    .select('token')
    .where('group_name', '=', 'projection:jobs@2')
    .execute();
  expect(checkpoints[0]?.token).toBeGreaterThan(100);
  const epochs = await world.db
    .selectFrom('epochs')
    .select(['epoch', 'first_seq', 'last_seq'])
    .where('partition', '=', 2)
    .orderBy('epoch')
    .execute();
  expect(epochs).toEqual([
    { epoch: 1, first_seq: 1, last_seq: 3 },
    { epoch: 2, first_seq: 4, last_seq: null },
  ]);
  // States stay valid, and both processes go on without a restart of theirs.
  expect(await second.load(stream, countFold)).toMatchObject({ state: { count: 3 }, version: 3 });
  expect(await second.commit({ partition: 2, appends: [append(stream, atVersion(3))] })).toMatchObject({
    kind: 'committed',
    position: { partition: 2, epoch: 2, seq: 4 },
  });
});

test('Redis is started with an older append-only file: commits stop and say why, and go on once the newer one is back', async () => {
  const { redis, world, store } = await begin();
  await one(store);
  await redis.saveAof('older');
  await Promise.all(Array.from({ length: 4 }, () => one(store)));
  await copyToLedger(world, store, 0);
  await redis.stop();
  await redis.saveAof('newer');
  await redis.restoreAof('older');
  await redis.start();

  await stopped(store, /up to 1 of partition 0, the ledger up to 5: Redis was restored from an older state/);
  await expect(one(store)).rejects.toThrow(StoreFencedError);
  await expect(one(store, 3)).rejects.toThrow(/older state.*newest append-only file/s);

  await redis.stop();
  await stopped(store, /not reachable/);
  await redis.restoreAof('newer');
  await redis.start();
  await open(store);
  expect(await one(store)).toMatchObject({ kind: 'committed', position: { epoch: 2, seq: 6 } });
});

test('Redis lost events and wrote others in their place: the fork is seen by the event ids', async () => {
  const { redis, world, store } = await begin();
  await one(store);
  await copyToLedger(world, store, 0);
  await world.db.updateTable('ledger').set({ event_id: 'another' }).execute();
  await redis.stop();
  await redis.start();
  await stopped(store, /Event 1 of partition 0 is \w+ in Redis, and another in the ledger/);
  await expect(one(store)).rejects.toThrow(StoreFencedError);
});

test('a projection that has read further than Redis goes stops commits, too', async () => {
  const { redis, world, store } = await begin();
  await world.db
    .insertInto('checkpoints')
    .values({ group_name: 'projection:jobs@2', partition: 1, epoch: 1, seq: 9, event_id: 'e9' })
    .execute();
  await redis.stop();
  await redis.start();
  await stopped(store, /up to 0 of partition 1, what projection:jobs@2 has read up to 9/);
});

test('FLUSHALL: commits stop and say why, here and in a process that starts afterwards', async () => {
  const { world, store, open: another } = await begin();
  await one(store);
  await copyToLedger(world, store, 0);
  await store.writer.redis.flushall();
  await expect(one(store)).rejects.toThrow(/no record of partition 0 any more.*FLUSHALL/);
  const later = await another();
  expect(later.fencedBecause()).toMatch(/no record of partition 0/);
  await expect(one(later)).rejects.toThrow(StoreFencedError);
});

test('FLUSHALL is seen without a commit, so that readiness shows it', async () => {
  const { store } = await begin();
  await store.writer.redis.flushall();
  await stopped(store, /no record of partition 0/);
});

test('an installation that has nothing in its ledger and nothing in Redis begins again, in a new epoch', async () => {
  const { store, open: another } = await begin();
  await store.writer.redis.flushall();
  await stopped(store, /no record/);
  const later = await another();
  expect(later.fencedBecause()).toBeUndefined();
  expect(await one(later)).toMatchObject({ kind: 'committed', position: { epoch: 2, seq: 1 } });
  await open(store);
  expect(await one(store)).toMatchObject({ kind: 'committed', position: { epoch: 2, seq: 2 } });
});

test('Postgres was restored from an older state: its head lies below what the log still has', async () => {
  const { world, store, open: another } = await begin();
  await Promise.all(Array.from({ length: 5 }, () => one(store)));
  await copyToLedger(world, store, 0);
  await store.maintain({ partition: 0, heldSeq: 5, trimTo: { epoch: 1, seq: 4 } });
  await world.db.deleteFrom('ledger').where('seq', '>', 2).execute();
  const first = await world.db
    .selectFrom('ledger')
    .select('event_id')
    .where('seq', '=', 2)
    .executeTakeFirst();
  await world.db
    .updateTable('checkpoints')
    .set({ seq: 2, event_id: first?.event_id ?? '' })
    .execute();
  const later = await another();
  expect(later.fencedBecause()).toMatch(/ends at event 2 of partition 0.*begins at 5: Postgres was restored/);
});

test('Postgres was restored to before the last restart of Redis: positions of the epoch that it does not know are no dead end', async () => {
  const { redis, world, store } = await begin();
  await one(store);
  await copyToLedger(world, store, 0);
  await redis.stop();
  await redis.start();
  await stopped(store, /./);
  await Promise.all([open(store), store.reader.whenReady(5_000)]);
  await world.db.deleteFrom('epochs').where('epoch', '=', 2).execute();
  await world.db.updateTable('epochs').set({ last_seq: null }).execute();
  const [keys] = store.keys;
  await vi.waitFor(
    async () => expect(await store.reader.redis.hget(keys?.meta ?? '', 'epoch')).toBe('3'),
    5_000,
  );
  await open(store);

  const subscriber = connectSubscriber({ url: world.redisUrl, name: 'waits' });
  const waits = createCheckpointWaits({ subscriber, db: world.db, prefix: world.prefix });
  onTestFinished(() => {
    waits.close();
    subscriber.disconnect();
  });
  const outcome = await one(store);
  if (outcome.kind !== 'committed') throw new Error(outcome.kind);
  await copyToLedger(world, store, 0);
  const { position } = outcome;
  expect(await waits.waitFor({ group: LEDGER_GROUP, position, timeoutMs: 2_000 })).toBe('reached');
});

test('the process that reconciles dies between Postgres and Redis: the next one begins the epoch anew', async () => {
  const { redis, world, store, open: another } = await begin();
  await one(store);
  await store.close();
  await redis.stop();
  await redis.start();
  // What it did last: the epoch is open in Postgres, and Redis does not know of it.
  await world.db.transaction().execute((trx) => openEpoch(trx, 0, { after: 1, lastSeq: 1, runId: 'x' }));
  const next = await another();
  await open(next);
  expect(await one(next)).toMatchObject({ kind: 'committed', position: { epoch: 3, seq: 2 } });
  expect(await epochsOf(world)).toEqual([
    { epoch: 1, last_seq: 1 },
    { epoch: 2, last_seq: 1 },
    { epoch: 3, last_seq: null },
  ]);
});

test('Postgres is away when Redis comes back: commits stay stopped until the two can be compared', async () => {
  const { redis, world, store } = await begin();
  await one(store);
  await redis.stop();
  await world.db.schema.alterTable('checkpoints').renameTo('elsewhere').execute();
  await redis.start();
  await stopped(store, /can't be compared with the ledger yet/);
  await expect(one(store)).rejects.toThrow(StoreFencedError);
  await world.db.schema.alterTable('elsewhere').renameTo('checkpoints').execute();
  await open(store);
});
