import { expect, onTestFinished, test } from 'vitest';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { StoreUnavailableError } from '../../src/eventstore/types.ts';
import { copyToLedger } from '../support/ledger.ts';
import { append, atVersion, countFold, minted, newStream, openStore } from '../support/store.ts';
import { createWorld } from '../support/world.ts';

async function begin() {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  return { world, store: await openStore(world) };
}
const stateKey = (store: OpenEventStore, stream: ReturnType<typeof newStream>) =>
  store.keys[0]?.state(stream) ?? '';
const commit = (store: OpenEventStore, ...appends: ReturnType<typeof append>[]) =>
  store.commit({ partition: 0, appends });

test('a state in Redis is taken as it is, without a look at the events', async () => {
  const { store } = await begin();
  const stream = newStream();
  await commit(store, { ...append(stream), state: { json: '{"count":42}', fold: 1 } });
  expect(await store.load(stream, countFold)).toEqual({
    state: { count: 42 },
    version: 1,
    lastSeq: 1,
    expected: { kind: 'loaded', version: 1 },
  });
});

test('a state of another fold version is folded anew from the events; its version still counts', async () => {
  const { store } = await begin();
  const stream = newStream();
  await commit(store, { ...append(stream, minted, 2), state: { json: '{"old":true}', fold: 7 } });
  const loaded = await store.load(stream, countFold);
  expect(loaded).toMatchObject({ state: { count: 2 }, version: 2, lastSeq: 2 });
  await commit(store, append(stream, loaded.expected));
  expect(await commit(store, append(stream, loaded.expected))).toMatchObject({ kind: 'conflict' });
});

test("a state that was evicted comes from the ledger's rows and the log's tail", async () => {
  const { world, store } = await begin();
  const stream = newStream();
  await commit(store, append(stream, minted, 2), append(newStream(), minted, 3));
  await copyToLedger(world, store, 0);
  await commit(store, append(stream, atVersion(2)), append(newStream()));
  await store.writer.redis.del(stateKey(store, stream));
  await store.writer.redis.hset(store.keys[0]?.meta ?? '', 'evicted', 5);

  const loaded = await store.load(stream, countFold);
  expect(loaded).toMatchObject({ state: { count: 3 }, version: 3, lastSeq: 6 });
  expect(loaded.expected).toEqual({ kind: 'loaded', version: 3, scannedTo: 7 });
  expect(await commit(store, append(stream, loaded.expected))).toMatchObject({
    kind: 'committed',
    versions: [4],
  });
});

test('what never was is proven absent, and can be begun by exactly one', async () => {
  const { world, store } = await begin();
  await commit(store, append(newStream(), minted, 3));
  await copyToLedger(world, store, 0);
  await commit(store, append(newStream(), minted, 2));
  await store.writer.redis.hset(store.keys[0]?.meta ?? '', 'evicted', 2);
  const stream = newStream();
  const loaded = await store.load(stream, countFold);
  expect(loaded).toEqual({
    state: { count: 0 },
    version: 0,
    lastSeq: 0,
    expected: { kind: 'loaded', version: 0, scannedTo: 5 },
  });
  const both = await Promise.all([
    commit(store, append(stream, loaded.expected)),
    commit(store, append(stream, loaded.expected)),
  ]);
  expect(both.map(({ kind }) => kind)).toEqual(['committed', 'conflict']);
});

test('begun, finished and evicted between load and commit: the proof of absence no longer holds', async () => {
  const { world, store } = await begin();
  const stream = newStream();
  const before = await store.load(stream, countFold);
  await commit(store, append(stream, before.expected));
  const heldSeq = await copyToLedger(world, store, 0);
  expect(await store.maintain({ partition: 0, heldSeq, evict: [stream] })).toEqual({
    evicted: 1,
    trimmed: 0,
  });
  expect(await commit(store, append(stream, before.expected))).toMatchObject({ kind: 'conflict' });
  expect(await store.load(stream, countFold)).toMatchObject({ version: 1, state: { count: 1 } });
});

test('where nothing was ever evicted, absence needs no Postgres', async () => {
  const { world, store } = await begin();
  await world.db.schema.alterTable('checkpoints').renameTo('elsewhere').execute();
  expect(await store.load(newStream(), countFold)).toMatchObject({
    version: 0,
    expected: { kind: 'loaded', version: 0, scannedTo: 0 },
  });
});

test('Postgres is away and the state is not in Redis: the command is refused, not guessed', async () => {
  const { world, store } = await begin();
  await store.writer.redis.hset(store.keys[0]?.meta ?? '', 'evicted', 1);
  await world.db.schema.alterTable('checkpoints').renameTo('elsewhere').execute();
  await expect(store.load(newStream(), countFold)).rejects.toThrow(StoreUnavailableError);
});

test('an event is missing between ledger and log: the load fails rather than fold over it', async () => {
  const { store } = await begin();
  const stream = newStream();
  await commit(store, append(stream, minted, 3));
  await store.writer.redis.xdel(store.keys[0]?.log ?? '', '1-2');
  await store.writer.redis.del(stateKey(store, stream));
  await store.writer.redis.hset(store.keys[0]?.meta ?? '', 'evicted', 1);
  const error = await store.load(stream, countFold).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(StoreUnavailableError);
  expect(error).toMatchObject({ cause: { name: 'LogGapError' } });
});

test('a state is evicted only once the ledger has all of its events; the log never loses its last entry', async () => {
  const { world, store } = await begin();
  const [done, live] = [newStream(), newStream()];
  await commit(store, append(done, minted, 2));
  const heldSeq = await copyToLedger(world, store, 0);
  await commit(store, append(live));
  const held = { epoch: 1, seq: heldSeq };
  expect(await store.maintain({ partition: 0, heldSeq, evict: [done, live], trimTo: held })).toEqual({
    evicted: 1,
    trimmed: 2,
  });
  expect(await store.writer.redis.exists(stateKey(store, live))).toBe(1);
  const all = await copyToLedger(world, store, 0);
  await store.maintain({ partition: 0, heldSeq: all, trimTo: { epoch: 1, seq: all } });
  expect(await store.writer.redis.xrange(store.keys[0]?.log ?? '', '-', '+')).toMatchObject([['1-3', {}]]);
  // What the ledger does not hold is never trimmed, whatever the trimmer says.
  await expect(store.maintain({ partition: 0, heldSeq: 1, trimTo: { epoch: 1, seq: 3 } })).rejects.toThrow(
    /ledger does not hold/,
  );
});

test('many loads at once all find the same', async () => {
  const { world, store } = await begin();
  const stream = newStream();
  await commit(store, append(stream, minted, 2));
  await copyToLedger(world, store, 0);
  await store.writer.redis.del(stateKey(store, stream));
  await store.writer.redis.hset(store.keys[0]?.meta ?? '', 'evicted', 2);
  const loads = await Promise.all(Array.from({ length: 50 }, () => store.load(stream, countFold)));
  expect(new Set(loads.map(({ version }) => version))).toEqual(new Set([2]));
});
