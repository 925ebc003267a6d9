import { Redis } from 'ioredis';
import { expect, onTestFinished, test, vi } from 'vitest';
import { connectBlocking } from '../../src/eventstore/connections.ts';
import { followStream, type Step } from '../../src/eventstore/follow.ts';
import { readHistory } from '../../src/eventstore/history.ts';
import { acceptLosses, openLosses } from '../../src/eventstore/losses.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { openLogTail, TAIL_BLOCK_MS } from '../../src/eventstore/tail.ts';
import { copyToLedger } from '../support/ledger.ts';
import { ownRedis } from '../support/own-redis.ts';
import { startProxy } from '../support/proxy.ts';
import { append, atVersion, minted, newStream, openStore } from '../support/store.ts';
import { createWorld, type World } from '../support/world.ts';

type Setting = { world: World; store: OpenEventStore; tailUrl?: string };

/** A tail on a store, by a connection of its own, perhaps another way. */
function opened({ world, store, tailUrl = world.redisUrl }: Setting) {
  const blocking = connectBlocking({
    url: tailUrl,
    name: `tail-${world.prefix}`,
    blockMs: TAIL_BLOCK_MS,
  });
  const { keys, reader, fence, told } = store;
  const tail = openLogTail({ keys, blocking, reader, fence, told });
  onTestFinished(() => tail.close());
  const deps = {
    tail,
    read: (...rest: [Parameters<typeof readHistory>[1], Parameters<typeof readHistory>[2]]) =>
      readHistory({ connection: reader, db: world.db, keys, fence }, ...rest),
  };

  /** Follows a stream, and keeps what it is told. */
  function follow(stream: ReturnType<typeof newStream>, after = 0) {
    const controller = new AbortController();
    const steps: Step[] = [];
    const seen: (number | 'resync')[] = [];
    let caughtUp = false;
    const ended = (async () => {
      const options = { after, idleMs: 60_000, signal: controller.signal, onOverflow: () => {} };
      for await (const step of followStream(deps, stream, options)) {
        steps.push(step);
        if (step.kind === 'resync') seen.push('resync');
        if (step.kind !== 'events') continue;
        seen.push(...step.events.map(({ version }) => version));
        caughtUp = step.caughtUp;
      }
    })();
    onTestFinished(() => controller.abort());
    return { steps, seen, caughtUp: () => caughtUp, leave: () => controller.abort(), ended };
  }
  return { follow, deps, tail };
}

async function shared() {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const store = await openStore(world);
  return { world, store, ...opened({ world, store }) };
}

async function withOwnRedis() {
  const redis = await ownRedis();
  const world = await createWorld({ redisUrl: redis.url });
  onTestFinished(() => world.dispose());
  const store = await openStore(world, { fenceIntervalMs: 50 });
  return { redis, world, store, ...opened({ world, store }) };
}

/** Appends one event after another to a stream, trying again while Redis is away; answers how many there are. */
async function appendOn(
  store: OpenEventStore,
  stream: ReturnType<typeof newStream>,
  from: number,
  to: number,
) {
  for (let version = from; version < to; version++) {
    const at = version === 0 ? minted : atVersion(version);
    await vi.waitFor(() => store.commit({ partition: 0, appends: [append(stream, at)] }), 15_000);
  }
}

const upTo = (last: number, first = 1) =>
  Array.from({ length: last - first + 1 }, (_, index) => first + index);

test('what was, and then what comes: each event once and in order, while others are written beside it', async () => {
  const { store, follow } = await shared();
  const stream = newStream(0);
  const another = newStream(0);
  await appendOn(store, stream, 0, 5);
  const early = follow(stream);
  const writing = Promise.all([appendOn(store, stream, 5, 250), appendOn(store, another, 0, 100)]);
  const late = Array.from({ length: 20 }, (_, index) => follow(stream, index % 6));
  await writing;
  const after = follow(stream, 249);
  await vi.waitFor(() => expect(after.seen).toEqual([250]), 10_000);
  await vi.waitFor(() => expect(early.seen).toEqual(upTo(250)), 10_000);
  for (const [index, each] of late.entries()) {
    await vi.waitFor(() => expect(each.seen).toEqual(upTo(250, (index % 6) + 1)), 10_000);
    expect(each.caughtUp()).toBe(true);
  }
});

test('a partition that gets its first listener while the tail waits for others is heard at once', async () => {
  const { store, follow } = await shared();
  const first = newStream(0);
  const second = newStream(3);
  await store.commit({ partition: 0, appends: [append(first)] });
  await store.commit({ partition: 3, appends: [append(second)] });
  const one = follow(first);
  await vi.waitFor(() => expect(one.seen).toEqual([1]), 10_000);
  // By now the tail's read is blocked, for seconds, on the first partition alone.
  const begun = performance.now();
  const two = follow(second);
  await vi.waitFor(() => expect(two.seen).toEqual([1]), 10_000);
  await store.commit({ partition: 3, appends: [append(second, atVersion(1))] });
  await vi.waitFor(() => expect(two.seen).toEqual([1, 2]), 10_000);
  expect(performance.now() - begun).toBeLessThan(TAIL_BLOCK_MS / 2);
});

test('history that the log has let go of comes from the ledger, and goes over into the log without a seam', async () => {
  const { world, store, follow } = await shared();
  const stream = newStream(0);
  await appendOn(store, stream, 0, 130);
  const heldSeq = await copyToLedger(world, store, 0);
  await store.maintain({ partition: 0, heldSeq, trimTo: { epoch: 1, seq: heldSeq } });
  await appendOn(store, stream, 130, 135);
  const follower = follow(stream);
  await vi.waitFor(() => expect(follower.seen).toEqual(upTo(135)), 10_000);
  await appendOn(store, stream, 135, 140);
  await vi.waitFor(() => expect(follower.seen).toEqual(upTo(140)), 10_000);
});

test('who comes with a version that the stream has not got begins anew, and is told so', async () => {
  const { store, follow } = await shared();
  const stream = newStream(0);
  await appendOn(store, stream, 0, 3);
  const follower = follow(stream, 9);
  await vi.waitFor(() => expect(follower.seen).toEqual(['resync', 1, 2, 3]), 10_000);
  const known = follow(stream, 3);
  await vi.waitFor(() => expect(known.caughtUp()).toBe(true), 10_000);
  expect(known.seen).toEqual([]);
});

test('where the connection of the tail is cut again and again, nothing is missed and nothing comes twice', async () => {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const store = await openStore(world);
  const proxy = await startProxy(world.redisUrl);
  const { follow } = opened({ world, store, tailUrl: proxy.url });
  const stream = newStream(0);
  await appendOn(store, stream, 0, 1);
  const follower = follow(stream);
  await vi.waitFor(() => expect(follower.seen).toEqual([1]), 10_000);
  for (let round = 0; round < 5; round++) {
    const writing = appendOn(store, stream, 1 + round * 40, 1 + (round + 1) * 40);
    proxy.cut();
    await writing;
  }
  proxy.refuse();
  await appendOn(store, stream, 201, 210);
  proxy.accept();
  await vi.waitFor(() => expect(follower.seen).toEqual(upTo(210)), 10_000);
});

test('Redis is killed and started again: who listens goes on in the next epoch, nothing missed and nothing twice', async () => {
  const { redis, store, follow } = await withOwnRedis();
  const stream = newStream(0);
  await appendOn(store, stream, 0, 10);
  const follower = follow(stream);
  await vi.waitFor(() => expect(follower.seen).toEqual(upTo(10)), 10_000);
  await redis.kill();
  await vi.waitFor(() => expect(store.fencedBecause()).toBeDefined(), 10_000);
  const meanwhile = follow(stream, 4);
  await redis.start();
  await appendOn(store, stream, 10, 20);
  await vi.waitFor(() => expect(follower.seen).toEqual(upTo(20)), 15_000);
  await vi.waitFor(() => expect(meanwhile.seen).toEqual(upTo(20, 5)), 15_000);
});

test('Redis comes back without an event that was followed: who had it is told to begin anew', async () => {
  const { redis, world, store, follow } = await withOwnRedis();
  const stream = newStream(0);
  await appendOn(store, stream, 0, 2);
  await redis.saveAof('older');
  await appendOn(store, stream, 2, 3);
  const follower = follow(stream);
  await vi.waitFor(() => expect(follower.seen).toEqual([1, 2, 3]), 10_000);
  const lost = follower.steps.at(-1);
  await redis.stop();
  await redis.restoreAof('older');
  await redis.start();
  // The ledger had not heard of it either: commands go on once somebody has accepted that.
  await vi.waitFor(() => expect(store.fencedBecause()).toMatch(/came back without/), 15_000);
  await acceptLosses(world.db, await openLosses(world.db), { by: 'a test', reason: 'it is one' });
  await vi.waitFor(() => expect(follower.seen).toEqual([1, 2, 3, 'resync', 1, 2]), 15_000);
  await appendOn(store, stream, 2, 3);
  await vi.waitFor(() => expect(follower.seen).toEqual([1, 2, 3, 'resync', 1, 2, 3]), 15_000);
  expect(follower.steps.at(-1)).not.toEqual(lost);
});

test('while Redis is away history comes as far as the ledger has it, and the rest when it is back', async () => {
  const { redis, world, store, follow } = await withOwnRedis();
  const stream = newStream(0);
  await appendOn(store, stream, 0, 3);
  await copyToLedger(world, store, 0);
  await appendOn(store, stream, 3, 5);
  await redis.stop();
  await vi.waitFor(() => expect(store.fencedBecause()).toBeDefined(), 10_000);
  const follower = follow(stream);
  const ahead = follow(stream, 4);
  await vi.waitFor(() => expect(follower.seen).toEqual([1, 2, 3]), 10_000);
  expect(follower.caughtUp()).toBe(false);
  await redis.start();
  await vi.waitFor(() => expect(follower.seen).toEqual([1, 2, 3, 4, 5]), 15_000);
  await vi.waitFor(() => expect(ahead.seen).toEqual([5]), 15_000);
});

test('a follower that does not fetch is given up, and what it left is not kept', async () => {
  const { store, deps } = await shared();
  const stream = newStream(0);
  await appendOn(store, stream, 0, 1);
  let overflowed = 0;
  const steps = followStream(deps, stream, {
    after: 0,
    idleMs: 60_000,
    signal: new AbortController().signal,
    onOverflow: () => overflowed++,
  });
  await steps.next();
  await store.commit({ partition: 0, appends: [append(stream, atVersion(1), 1_500)] });
  await vi.waitFor(() => expect(overflowed).toBe(1), 10_000);
  expect(await steps.next()).toEqual({ done: true, value: undefined });
});

test('a thousand listeners of one process share one connection, and leave nothing behind', async () => {
  const { world, store, follow } = await shared();
  const streams = Array.from({ length: 50 }, (_, index) => newStream(index % 4));
  await Promise.all(
    streams.map((stream, index) => store.commit({ partition: index % 4, appends: [append(stream)] })),
  );
  const followers = Array.from({ length: 1_000 }, (_, index) => {
    const stream = streams[index % streams.length];
    if (!stream) throw new Error('no stream');
    return follow(stream);
  });
  await vi.waitFor(() => expect(followers.every(({ seen }) => seen.length === 1)).toBe(true), 20_000);
  await Promise.all(
    streams.map((stream, index) =>
      store.commit({ partition: index % 4, appends: [append(stream, atVersion(1), 3)] }),
    ),
  );
  await vi.waitFor(() => expect(followers.every(({ seen }) => seen.length === 4)).toBe(true), 10_000);
  for (const { seen } of followers) expect(seen).toEqual([1, 2, 3, 4]);
  const redis = new Redis(world.redisUrl);
  const clients = String(await redis.client('LIST'));
  redis.disconnect();
  expect(clients.split('\n').filter((line) => line.includes(`name=tail-${world.prefix}`))).toHaveLength(1);
  for (const follower of followers) follower.leave();
  await Promise.all(followers.map(({ ended }) => ended));
});
