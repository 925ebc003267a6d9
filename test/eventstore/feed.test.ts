import { randomBytes } from 'node:crypto';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { RawEvent } from '../../src/domain/event.ts';
import {
  type EventFilter,
  type FeedStep,
  firstPlaces,
  formatPlaces,
  type Places,
  parsePlaces,
} from '../../src/domain/feed.ts';
import type { EventId } from '../../src/domain/ids.ts';
import { connectBlocking } from '../../src/eventstore/connections.ts';
import { followFeed } from '../../src/eventstore/feed/follow.ts';
import { placesNow, placesThatStand } from '../../src/eventstore/feed/places.ts';
import { type FeedDeps, readFeed } from '../../src/eventstore/feed/read.ts';
import { acceptLosses, openLosses } from '../../src/eventstore/losses.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { openLogTail, TAIL_BLOCK_MS } from '../../src/eventstore/tail.ts';
import { copyToLedger } from '../support/ledger.ts';
import { ownRedis } from '../support/own-redis.ts';
import { startProxy } from '../support/proxy.ts';
import { append, minted, newStream, openStore } from '../support/store.ts';
import { createWorld, type World } from '../support/world.ts';

const PARTITIONS = 4;

function depsOf(world: World, { keys, reader: connection, fence }: OpenEventStore): FeedDeps {
  return { db: world.db, keys, log: { connection, fence } };
}

function opened(world: World, store: OpenEventStore, tailUrl = world.redisUrl) {
  const deps = depsOf(world, store);
  const blocking = connectBlocking({ url: tailUrl, name: `feed-${world.prefix}`, blockMs: TAIL_BLOCK_MS });
  const { keys, reader, fence, told } = store;
  const tail = openLogTail({ keys, blocking, reader, fence, told });
  onTestFinished(() => tail.close());
  function follow(after: Places = firstPlaces(PARTITIONS), filter: EventFilter = {}) {
    const controller = new AbortController();
    const steps: FeedStep[] = [];
    const seen: string[] = [];
    let last = after;
    void (async () => {
      const parts = {
        tail,
        read: (range: Parameters<typeof readFeed>[1]) => readFeed(deps, range),
        stand: (places: Places) => placesThatStand(world.db, places),
      };
      const options = { after, filter, idleMs: 60_000, signal: controller.signal };
      for await (const step of followFeed(parts, options)) {
        steps.push(step);
        if (step.kind !== 'events') continue;
        for (const { event, after } of step.events) {
          seen.push(event.id);
          last = after;
        }
      }
    })();
    onTestFinished(() => controller.abort());
    return { steps, seen, last: () => last, leave: () => controller.abort() };
  }
  return { deps, follow };
}

async function shared() {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const store = await openStore(world);
  return { world, store, ...opened(world, store) };
}

/** Commits one event to a stream of its own, trying again while Redis is away; answers the event's id. */
async function commit(
  store: OpenEventStore,
  partition: number,
  type = 'EmailClaimed',
  at = new Date(),
): Promise<string> {
  const change = append(newStream(partition));
  const id = randomBytes(8).toString('hex') as EventId;
  const meta = JSON.stringify({
    schema: 1,
    at: at.toISOString(),
    actor: 'test',
    correlation: `c${partition}`,
  });
  const events = change.events.map((event) => ({ ...event, id, type, meta }));
  await vi.waitFor(
    () => store.commit({ partition, appends: [{ ...change, expected: minted, events }] }),
    15_000,
  );
  return id;
}

async function readAll(deps: FeedDeps, filter: EventFilter, limit: number): Promise<RawEvent[]> {
  const found: RawEvent[] = [];
  for (let after = firstPlaces(PARTITIONS); ; ) {
    const page = await readFeed(deps, { after, filter, limit });
    expect(page.events.length).toBeLessThanOrEqual(limit);
    found.push(...page.events);
    after = page.end;
    if (!page.more) return found;
  }
}

test('page by page each event comes once, of a partition in order, though they are committed, copied and trimmed meanwhile', async () => {
  const { world, store, deps } = await shared();
  const ids: string[] = [];
  let writing = true;
  const writer = (async () => {
    for (let n = 0; n < 400; n++) ids.push(await commit(store, n % PARTITIONS));
  })().finally(() => {
    writing = false;
  });
  onTestFinished(() => {
    writing = false;
  });
  const copier = (async () => {
    while (writing) {
      for (let partition = 0; partition < PARTITIONS; partition++) {
        const heldSeq = await copyToLedger(world, store, partition);
        if (heldSeq > 0) await store.maintain({ partition, heldSeq, trimTo: { epoch: 1, seq: heldSeq } });
      }
    }
  })();
  const found: RawEvent[] = [];
  let after = firstPlaces(PARTITIONS);
  const round = async (limit: number) => {
    const page = await readFeed(deps, { after, filter: {}, limit });
    found.push(...page.events);
    after = page.end;
    return page.more;
  };
  while (writing) await round(7);
  await Promise.all([writer, copier]);
  while (await round(50));
  expect(found.map(({ id }) => id).sort()).toEqual([...ids].sort());
  for (let partition = 0; partition < PARTITIONS; partition++) {
    const seqs = found.filter((event) => event.partition === partition).map(({ seq }) => seq);
    expect(seqs).toEqual(Array.from({ length: 100 }, (_, index) => index + 1));
  }
  const again = await readAll(deps, {}, 33);
  expect(again).toHaveLength(400);
});

test('what a filter wants is found wherever it lies, the oldest first over all partitions', async () => {
  const { world, store, deps } = await shared();
  const start = Date.UTC(2026, 0, 1);
  const hour = 3_600_000;
  for (let n = 0; n < 80; n++) {
    await commit(
      store,
      n % PARTITIONS,
      n % 5 === 0 ? 'JobEnqueued' : 'EmailClaimed',
      new Date(start + n * hour),
    );
    if (n === 59) {
      for (let partition = 0; partition < PARTITIONS; partition++)
        await copyToLedger(world, store, partition);
      // As the ledger itself writes them, which the test's copy leaves out.
      for (const { partition, seq, meta } of await world.db.selectFrom('ledger').selectAll().execute()) {
        const { at, correlation } = JSON.parse(meta);
        await world.db
          .updateTable('ledger')
          .set({ recorded_at: new Date(at), correlation })
          .where('partition', '=', partition)
          .where('seq', '=', seq)
          .execute();
      }
    }
  }
  const hours = async (filter: EventFilter) =>
    (await readAll(deps, filter, 9)).map(({ meta }) => (Date.parse(JSON.parse(meta).at) - start) / hour);
  const every = (from: number, to: number, step = 1, first = from) =>
    Array.from({ length: Math.ceil((to - first) / step) }, (_, index) => first + index * step);
  expect(await hours({})).toEqual(every(0, 80));
  expect(await hours({ type: 'JobEnqueued' })).toEqual(every(0, 80, 5));
  expect(await hours({ correlationId: 'c1' })).toEqual(every(0, 80, 4, 1));
  const [from, to] = [new Date(start + 50 * hour), new Date(start + 70 * hour)];
  expect(await hours({ from, to })).toEqual(every(50, 70));
  expect(await hours({ from: new Date(start + 75 * hour) })).toEqual(every(75, 80));
  expect(await hours({ to: new Date(start + 3 * hour) })).toEqual([0, 1, 2]);
  expect(await hours({ type: 'JobEnqueued', from, to })).toEqual([50, 55, 60, 65]);
  expect(await hours({ type: 'Nothing' })).toEqual([]);
});

test('who follows everything hears each event once, in order of each partition, and goes on from any place', async () => {
  const { world, store, follow, deps } = await shared();
  const ids: string[] = [];
  for (let n = 0; n < 40; n++)
    ids.push(await commit(store, n % PARTITIONS, n % PARTITIONS === 2 ? 'JobEnqueued' : 'EmailClaimed'));
  const now = await placesNow(deps);
  const [early, late] = [follow(), follow(now)];
  for (let n = 0; n < 60; n++) {
    ids.push(await commit(store, n % PARTITIONS, n % PARTITIONS === 2 ? 'JobEnqueued' : 'EmailClaimed'));
    if (n === 30)
      for (let partition = 0; partition < PARTITIONS; partition++)
        await copyToLedger(world, store, partition);
  }
  await vi.waitFor(() => expect([...early.seen].sort()).toEqual([...ids].sort()), 10_000);
  await vi.waitFor(() => expect([...late.seen].sort()).toEqual(ids.slice(40).sort()), 10_000);
  late.leave();
  for (let n = 0; n < 8; n++)
    ids.push(await commit(store, n % PARTITIONS, n % PARTITIONS === 2 ? 'JobEnqueued' : 'EmailClaimed'));
  const text = formatPlaces(late.last());
  const again = follow(parsePlaces(text, PARTITIONS));
  await vi.waitFor(() => expect([...again.seen].sort()).toEqual(ids.slice(100).sort()), 10_000);
  const some = follow(undefined, { type: 'JobEnqueued' });
  await vi.waitFor(() => expect(some.seen).toHaveLength(27), 10_000);
});

test('where its connection is cut again and again, who follows everything misses nothing and hears nothing twice', async () => {
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const store = await openStore(world);
  const proxy = await startProxy(world.redisUrl);
  const { follow } = opened(world, store, proxy.url);
  const follower = follow();
  const ids: string[] = [];
  for (let round = 0; round < 5; round++) {
    const writing = Promise.all(Array.from({ length: 40 }, (_, n) => commit(store, n % PARTITIONS)));
    proxy.cut();
    ids.push(...(await writing));
  }
  proxy.refuse();
  ids.push(await commit(store, 3));
  proxy.accept();
  await vi.waitFor(() => expect([...follower.seen].sort()).toEqual([...ids].sort()), 10_000);
});

test('Redis comes back without events that were followed: who had them is told which, and hears what stands', async () => {
  const redis = await ownRedis();
  const world = await createWorld({ redisUrl: redis.url });
  onTestFinished(() => world.dispose());
  const store = await openStore(world, { fenceIntervalMs: 50 });
  const { follow, deps } = opened(world, store);
  const first = await commit(store, 1);
  await redis.saveAof('older');
  const lost = await commit(store, 1);
  const follower = follow();
  await vi.waitFor(() => expect(follower.seen).toEqual([first, lost]), 10_000);
  const known = follower.last();
  await redis.stop();
  await redis.restoreAof('older');
  await redis.start();
  await vi.waitFor(() => expect(store.fencedBecause()).toMatch(/came back without/), 15_000);
  expect((await readFeed(deps, { after: firstPlaces(PARTITIONS), filter: {}, limit: 9 })).whole).toBe(false);
  await acceptLosses(world.db, await openLosses(world.db), { by: 'a test', reason: 'it is one' });
  const next = await commit(store, 1);
  const resync = expect.objectContaining({ kind: 'resync', lost: [{ partition: 1, from: 2, to: 2 }] });
  await vi.waitFor(() => expect(follower.seen).toEqual([first, lost, next]), 15_000);
  expect(follower.steps).toContainEqual(resync);
  const back = follow(known);
  await vi.waitFor(() => expect(back.seen).toEqual([next]), 15_000);
  expect(back.steps).toContainEqual(resync);
});

test('who fetches slowly is not cut off: it falls behind, and still hears each event once', async () => {
  const { world, store, follow, deps } = await shared();
  const controller = new AbortController();
  onTestFinished(() => controller.abort());
  const { keys, reader, fence, told } = store;
  const blocking = connectBlocking({ url: world.redisUrl, name: 'slow', blockMs: TAIL_BLOCK_MS });
  const tail = openLogTail({ keys, blocking, reader, fence, told });
  onTestFinished(() => tail.close());
  const after = firstPlaces(PARTITIONS);
  const parts = {
    tail,
    read: (range: Parameters<typeof readFeed>[1]) => readFeed(deps, range),
    stand: (places: Places) => placesThatStand(world.db, places),
  };
  const steps = followFeed(parts, { after, filter: {}, idleMs: 60_000, signal: controller.signal });
  const ids = [await commit(store, 0)];
  const first = await steps.next();
  expect(first.value).toMatchObject({ kind: 'events', events: [{ event: { id: ids[0] } }] });
  // More than is kept for it, while it does not ask.
  for (let n = 0; n < 60; n++) {
    const changes = Array.from({ length: 100 }, () => append(newStream(n % PARTITIONS)));
    for (const { events } of changes) for (const { id } of events) ids.push(id);
    await store.commit({ partition: n % PARTITIONS, appends: changes });
  }
  const quick = follow();
  await vi.waitFor(() => expect(quick.seen).toHaveLength(6001), 15_000);
  const seen = [ids[0] ?? ''];
  while (seen.length < ids.length) {
    const step = await steps.next();
    if (step.done) throw new Error('it ended');
    if (step.value.kind === 'events') seen.push(...step.value.events.map(({ event }) => event.id));
  }
  expect(new Set(seen).size).toBe(6001);
  expect(seen.sort()).toEqual([...ids].sort());
});
