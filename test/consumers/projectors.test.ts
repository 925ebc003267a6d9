import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { startRedis } from '../../deploy/local/servers.mjs';
import { createLedger } from '../../src/consumers/ledger.ts';
import { startProjectors } from '../../src/consumers/projectors.ts';
import { createTrimmer } from '../../src/consumers/trimmer.ts';
import type { RawEvent } from '../../src/domain/event.ts';
import { UnknownEventError } from '../../src/domain/events.ts';
import { moveCheckpoint, openCheckpoint } from '../../src/eventstore/checkpoints.ts';
import { readLedger } from '../../src/eventstore/ledger-read.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import type { OrderedGroup } from '../../src/eventstore/types.ts';
import type { World } from '../support/world.ts';
import { appendEvents, enqueue, openWorld, roleDeps, until } from './support.ts';

const KEEP_ALL = { windowEvents: 1_000_000, retentionMs: 0, everyMs: 60_000 };

/** A group with a checkpoint in Postgres that remembers what it was given. */
function recorder(db: World['db'], name: string, before: (events: readonly RawEvent[]) => void = () => {}) {
  const seen: RawEvent[] = [];
  const group: OrderedGroup = {
    name,
    open: (partition, token) => openCheckpoint(db, name, partition, token),
    async apply(partition, from, events, token) {
      before(events);
      const last = events.at(-1);
      const to = { epoch: last?.epoch ?? 0, seq: last?.seq ?? 0, eventId: last?.id ?? null };
      await db
        .transaction()
        .execute((trx) => moveCheckpoint(trx, { group: name, partition, from, to, token }));
      seen.push(...events);
      return to;
    },
  };
  return { group, seen, seqs: (partition = 0) => seqsOf(seen, partition) };
}

const seqsOf = (events: readonly RawEvent[], partition = 0) =>
  events.filter((event) => event.partition === partition).map(({ seq }) => seq);
const upTo = (seq: number) => Array.from({ length: seq }, (_, index) => index + 1);

function openLedger(world: World) {
  const pool = openPool({ url: world.databaseUrl, max: 4, applicationName: 'test' });
  onTestFinished(() => pool.end());
  return createLedger(pool, world.db);
}

async function start(world: World, store: OpenEventStore, groups: readonly OrderedGroup[], trim = KEEP_ALL) {
  const deps = roleDeps(world, store);
  const projectors = await startProjectors({ ...deps, groups, trim });
  let stopped: Promise<void> | undefined;
  const stop = () => (stopped ??= projectors.stop());
  onTestFinished(stop);
  await projectors.ready();
  return { ...projectors, stop, metrics: deps.metrics };
}

describe('Ordered groups', () => {
  it('read every event once and in order: what was there, and what comes', async () => {
    const { world, store } = await openWorld();
    await appendEvents(store, 0, 1_200);
    const [one, two] = [recorder(world.db, 'projection:one@1'), recorder(world.db, 'projection:two@1')];
    await start(world, store, [openLedger(world), one.group, two.group]);
    await until(() => expect(one.seen).toHaveLength(1_200));
    await appendEvents(store, 1, 30);
    await appendEvents(store, 0, 30);
    await until(() => expect([one.seen.length, two.seen.length]).toEqual([1_260, 1_260]));
    await until(async () => expect(await ledgerSize(world)).toBe(1_260));
    expect(one.seqs(0)).toEqual(upTo(1_230));
    expect(two.seqs(1)).toEqual(upTo(30));
    const recorded = await readLedger(world.db, { partition: 0, after: 0, limit: 2_000 });
    expect(recorded).toEqual(one.seen.filter(({ partition }) => partition === 0));
  });

  it('go on where they were after a restart of the process', async () => {
    const { world, store } = await openWorld();
    const ledger = openLedger(world);
    const seen = recorder(world.db, 'projection:one@1');
    await appendEvents(store, 0, 10);
    const first = await start(world, store, [ledger, seen.group]);
    await until(() => expect(seen.seqs()).toEqual(upTo(10)));
    await first.stop();
    await appendEvents(store, 0, 10);
    await start(world, store, [ledger, seen.group]);
    await until(() => expect(seen.seqs()).toEqual(upTo(20)));
  });

  it('take larger batches the longer they find full ones, and small ones again where events are large', async () => {
    const { world, store } = await openWorld({ partitions: 1 });
    const sizes: number[] = [];
    const seen = recorder(world.db, 'projection:one@1', ({ length }) => void sizes.push(length));
    await appendEvents(store, 0, 9_000);
    await start(world, store, [openLedger(world), seen.group]);
    await until(() => expect(seen.seqs()).toEqual(upTo(9_000)));
    // Of a slow server it has less at hand by the time that a batch should go.
    expect(sizes[0]).toBe(500);
    expect(sizes[1]).toBeGreaterThan(500);
    expect(Math.max(...sizes)).toBeGreaterThan(2_000);
    expect(Math.max(...sizes)).toBeLessThanOrEqual(4_000);

    await appendEvents(store, 0, 1_500, () => ({ text: 'x'.repeat(4_000) }));
    const large: number[] = [];
    const two = recorder(world.db, 'projection:two@1', (events) => {
      if ((events[0]?.seq ?? 0) > 9_000) large.push(events.length);
    });
    await start(world, store, [two.group]);
    await until(() => expect(two.seqs()).toEqual(upTo(10_500)));
    expect(Math.max(...large)).toBeLessThanOrEqual(500);
  });

  it('pass over a stream of events that are none of theirs in few transactions, and take at once one that is', async () => {
    const { world, store } = await openWorld({ partitions: 1 });
    const batches = { all: 0, few: 0 };
    const all = recorder(world.db, 'projection:all@1', () => void batches.all++);
    const few = recorder(world.db, 'projection:few@1', () => void batches.few++);
    const group = { ...few.group, concerns: ({ data }: RawEvent) => data.includes('theirs') };
    await start(world, store, [all.group, group]);
    let sent = 0;
    for (const end = Date.now() + 3_000; Date.now() < end; sent += 40) await appendEvents(store, 0, 40);
    await until(() => expect([all.seen.length, few.seen.length]).toEqual([sent, sent]));
    expect(few.seqs()).toEqual(upTo(sent));
    // At most one in a quarter of a second, or for two thousand events; of the others one in 80 ms, or for five hundred.
    expect(batches.few).toBeLessThan(batches.all / 2);
    const before = few.seen.length;
    await appendEvents(store, 0, 20, (index) => (index === 19 ? { is: 'theirs' } : { accountId: 'a' }));
    await until(() => expect(few.seen.length).toBe(before + 20));
  });

  it('try a batch again until it is applied, and skip nothing', async () => {
    const { world, store } = await openWorld();
    let failures = 3;
    const seen = recorder(world.db, 'projection:one@1', () => {
      if (failures-- > 0) throw new Error('the database is on fire');
    });
    await start(world, store, [openLedger(world), seen.group]);
    await appendEvents(store, 0, 5);
    await until(() => expect(seen.seqs()).toEqual(upTo(5)));
  });

  it('get on in smaller steps where a whole batch takes Postgres too long', async () => {
    const { world, store } = await openWorld();
    const seen = recorder(world.db, 'projection:one@1', (events) => {
      if (events.length > 150) throw new Error('canceling statement due to statement timeout');
    });
    await appendEvents(store, 0, 400);
    await start(world, store, [openLedger(world), seen.group]);
    await until(() => expect(seen.seqs()).toEqual(upTo(400)));
  });

  it('leave a partition to newer code when they meet an event that they do not know', async () => {
    const { world, store } = await openWorld();
    const old = recorder(world.db, 'projection:one@1', (events) => {
      if (events.some(({ partition }) => partition === 0)) throw new UnknownEventError('what is this?');
    });
    const first = await start(world, store, [openLedger(world), old.group]);
    await appendEvents(store, 0, 3);
    await appendEvents(store, 1, 3);
    await until(() => expect(first.held()).not.toContainEqual({ group: 'projection:one@1', partition: 0 }));
    await until(() => expect(old.seqs(1)).toEqual(upTo(3)));
    const newer = recorder(world.db, 'projection:one@1');
    await start(world, store, [openLedger(world), newer.group]);
    await until(() => expect(newer.seqs(0)).toEqual(upTo(3)));
    expect((await first.metrics.groupStops.get()).values).toMatchObject([
      { labels: { group: 'projection:one@1', partition: '0', reason: 'unknown_event' }, value: 1 },
    ]);
  });

  it('read the ledger where the log was trimmed, and cross to the log without a gap', async () => {
    const { world, store } = await openWorld();
    const ledger = openLedger(world);
    const first = await start(world, store, [ledger]);
    await appendEvents(store, 0, 700);
    await until(async () => expect(await ledgerSize(world)).toBe(700));
    const trimmer = createTrimmer({ db: world.db, store, windowEvents: 20, retentionMs: 0 });
    expect((await trimmer.trim(0)).trimmed).toBeGreaterThan(500);
    await first.stop();
    await appendEvents(store, 0, 10); // neither in the ledger, nor trimmed
    const late = recorder(world.db, 'projection:late@1');
    await start(world, store, [ledger, late.group]);
    await until(() => expect(late.seqs()).toEqual(upTo(710)));
  });

  it('raise an alarm and stop where the log is another than the one that they read', async () => {
    const { world, store } = await openWorld();
    const seen = recorder(world.db, 'projection:one@1');
    await appendEvents(store, 0, 5);
    const first = await start(world, store, [openLedger(world), seen.group]);
    await until(() => expect(seen.seqs()).toEqual(upTo(5)));
    await until(async () => expect(await ledgerSize(world)).toBe(5));
    await first.stop();
    await world.db
      .updateTable('checkpoints')
      .set({ event_id: 'another' })
      .where('partition', '=', 0)
      .execute();
    await appendEvents(store, 0, 5);
    const second = await start(world, store, [openLedger(world), seen.group]);
    await until(async () =>
      expect((await second.metrics.groupStops.get()).values.map(({ labels }) => labels)).toEqual(
        expect.arrayContaining([
          { group: 'ledger', partition: '0', reason: 'fork' },
          { group: 'projection:one@1', partition: '0', reason: 'fork' },
        ]),
      ),
    );
    expect(seen.seqs()).toEqual(upTo(5));
  });

  it('raise an alarm and stop where events are missing in the log and in the ledger', async () => {
    const { world, store } = await openWorld();
    const first = await start(world, store, [openLedger(world)]);
    await appendEvents(store, 0, 30);
    await until(async () => expect(await ledgerSize(world)).toBe(30));
    await first.stop();
    await createTrimmer({ db: world.db, store, windowEvents: 5, retentionMs: 0 }).trim(0);
    await world.db.deleteFrom('ledger').where('seq', '=', 12).execute();
    const late = recorder(world.db, 'projection:late@1');
    const { metrics } = await start(world, store, [late.group]);
    await until(async () =>
      expect((await metrics.groupStops.get()).values).toMatchObject([{ labels: { reason: 'gap' } }]),
    );
    expect(late.seqs()).toEqual([]);
  });

  it('tell how far they are behind', async () => {
    const { world, store } = await openWorld();
    let stuck = true;
    const slow = recorder(world.db, 'projection:slow@1', () => {
      if (stuck) throw new Error('not now');
    });
    const { metrics } = await start(world, store, [openLedger(world), slow.group]);
    await appendEvents(store, 0, 7);
    const lag = async () =>
      (await metrics.groupLagEvents.get()).values.find(
        ({ labels }) => labels.group === 'projection:slow@1' && labels.partition === '0',
      )?.value;
    await until(async () => expect(await lag()).toBe(7));
    stuck = false;
    await until(async () => expect(await lag()).toBe(0), 15_000);
  });

  it('lose and double nothing when Redis is restarted under them', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'millrace-redis-'));
    onTestFinished(() => rm(dir, { recursive: true, force: true }));
    let redis = await startRedis({ dir, appendfsync: 'always' });
    onTestFinished(() => redis.stop());
    const { world, store } = await openWorld({ redisUrl: redis.url });
    const seen = recorder(world.db, 'projection:one@1');
    await start(world, store, [openLedger(world), seen.group]);
    await appendEvents(store, 0, 20);
    await until(() => expect(seen.seqs()).toEqual(upTo(20)));
    await redis.kill();
    redis = await startRedis({ dir, port: redis.port, appendfsync: 'always' });
    await until(() => expect(store.fencedBecause()).toBeUndefined(), 20_000);
    await until(() => appendEvents(store, 0, 1), 20_000);
    await appendEvents(store, 0, 19);
    await until(() => expect(seen.seqs()).toEqual(upTo(40)), 25_000);
    await until(async () => expect(await ledgerSize(world)).toBe(40));
  });
});

describe('The trimmer', () => {
  it('leaves the window and what the ledger does not have, and evicts the states of finished jobs only', async () => {
    const { world, store } = await openWorld();
    const trimmer = createTrimmer({ db: world.db, store, windowEvents: 10, retentionMs: 0 });
    await appendEvents(store, 0, 30);
    const waiting = await enqueue(store);
    const length = () => store.reader.redis.xlen(store.keys[0]?.log ?? '');
    expect(await trimmer.trim(0)).toEqual({ evicted: 0, trimmed: 0 });
    expect(await length()).toBe(31);

    const { stop } = await start(world, store, [openLedger(world)]);
    await until(async () => expect(await ledgerSize(world)).toBe(31));
    await appendEvents(store, 0, 30);
    await until(async () => expect(await ledgerSize(world)).toBe(61));
    await stop();
    await trimmer.trim(0);
    expect(await length()).toBeGreaterThanOrEqual(10);
    expect(await length()).toBeLessThanOrEqual(41);
    expect(await store.reader.redis.exists(store.keys[0]?.state(waiting) ?? '')).toBe(1);
  });

  it('keeps events for as long as the retention says, whatever the window', async () => {
    const { world, store } = await openWorld();
    await start(world, store, [openLedger(world)]);
    await appendEvents(store, 0, 30);
    await until(async () => expect(await ledgerSize(world)).toBe(30));
    const trimmer = createTrimmer({ db: world.db, store, windowEvents: 0, retentionMs: 60_000 });
    expect((await trimmer.trim(0)).trimmed).toBe(0);
  });
});

async function ledgerSize(world: World): Promise<number> {
  const { seqs } = await world.db
    .selectFrom('ledger')
    .select(({ fn }) => fn.countAll<number>().as('seqs'))
    .executeTakeFirstOrThrow();
  return Number(seqs);
}
