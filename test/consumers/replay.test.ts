import { describe, expect, it, onTestFinished } from 'vitest';
import { createLedger } from '../../src/consumers/ledger.ts';
import type { Reactor } from '../../src/consumers/reactor.ts';
import { recover } from '../../src/consumers/recovery/recover.ts';
import type { Selection } from '../../src/consumers/replay/events.ts';
import { type ReplayDeps, replayJob } from '../../src/consumers/replay/job.ts';
import { planReplay, rangesOfPlan } from '../../src/consumers/replay/plan.ts';
import { type JobId, streamId } from '../../src/domain/ids.ts';
import type { ReplayPayload } from '../../src/domain/replays.ts';
import { createArchives } from '../../src/eventstore/archive/archives.ts';
import { archiveLedger } from '../../src/eventstore/archive/write.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { randomText, testHmac } from '../support/connections.ts';
import { eventsInLog } from '../support/log.ts';
import type { World } from '../support/world.ts';
import { callbackUrl, cursorOf, endJob, ends, group, idsTold, notifier, start, told } from './notifying.ts';
import { openStore, openWorld, quiet, until } from './support.ts';

const ALWAYS = { from: new Date(0), to: new Date('2100-01-01T00:00:00Z') };

async function ledgerPool(world: World) {
  const pool = openPool({ url: world.databaseUrl, max: 2, applicationName: 'test' });
  onTestFinished(() => pool.end());
  return pool;
}

/** A ledger that follows, and jobs that have ended and were told of. */
async function past(count: number) {
  const { world, store } = await openWorld();
  const pool = await ledgerPool(world);
  const ledger = await start(world, await openStore(world), [createLedger(pool, world.db)]);
  const ended: JobId[] = [];
  for (let n = 0; n < count; n++) ended.push(await endJob(store, ends.succeeded(callbackUrl)));
  const reading = await start(world, store, [group(store)]);
  await until(async () => expect(await idsTold(store)).toHaveLength(count));
  await reading.stop();
  const deps = (own: OpenEventStore = store): ReplayDeps => ({
    ...{ db: world.db, store: own, now: () => new Date(), randomText, hmac: testHmac },
    reactors: [notifier],
  });
  const plan = (
    reactor: Reactor = notifier,
    { code = 'v1', ...selection }: Partial<Selection> & { readonly code?: string } = {},
  ) =>
    planReplay({ db: world.db, store }, reactor, { types: reactor.reactsTo, ...ALWAYS, ...selection }, code);
  async function payload(how: Partial<ReplayPayload> = {}): Promise<ReplayPayload> {
    const planned = await plan();
    return {
      ...{ group: 'notifier', types: [...notifier.reactsTo], sideEffects: 'on', rate: 10_000 },
      ...{ from: ALWAYS.from.toISOString(), to: ALWAYS.to.toISOString() },
      ...{ ranges: rangesOfPlan(planned), events: planned.events, digest: planned.digest, ...how },
    };
  }
  return { world, store, pool, ledger, ended, deps, plan, payload };
}

/** One run of the job, until its end or the signal. */
function run(deps: ReplayDeps, id: JobId, payload: ReplayPayload, signal = new AbortController().signal) {
  return replayJob(deps).perform({
    job: { id, type: 'replay', payload, attempt: 1, enqueuedAt: new Date().toISOString() },
    ...{ signal, progress: () => {}, logger: quiet, idempotencyKey: id },
  });
}

const newReplay = (): JobId => streamId('job', 1, randomText(20));
const replayed = async (store: OpenEventStore) => (await told(store)).filter(({ meta }) => meta.replay);

describe('A replay', () => {
  it('without side effects counts what it would do, and does none of it', async () => {
    const { store, deps, payload } = await past(5);
    const [cursor, before] = [await cursorOf(store), (await eventsInLog(store)).length];
    const result = await run(deps(), newReplay(), await payload({ sideEffects: 'off' }));
    expect(result).toEqual({ sideEffects: 'off', events: 5, jobs: 5 });
    expect([await cursorOf(store), (await eventsInLog(store)).length]).toEqual([cursor, before]);
  });

  it('with side effects does each once more, behind what is live, and leaves the cursor where it is', async () => {
    const { store, ended, deps, payload } = await past(5);
    const cursor = await cursorOf(store);
    const id = newReplay();
    expect(await run(deps(), id, await payload())).toEqual({ sideEffects: 'on', events: 5, jobs: 5 });
    const again = await replayed(store);
    expect(again.map(({ body }) => body.id)).toEqual(ended);
    expect(again[0]?.meta).toMatchObject({ owner: 'acc-1', correlation: 'c-1', actor: 'system:notifier' });
    expect(again[0]?.meta).not.toHaveProperty('reaction');
    expect(again.map(({ meta }) => meta.replay)).toEqual(
      again.map(({ meta }) => ({ id, reactor: 'notifier', seq: meta.replay.seq })),
    );
    expect(await store.reader.redis.xlen(store.keys[0]?.work('webhooks', 'low') ?? '')).toBe(5);
    expect(await cursorOf(store)).toBe(cursor);
  });

  it('that is cut off anywhere goes on there, and does nothing twice; another one does all of it again', async () => {
    const { store, ended, deps, payload } = await past(40);
    const id = newReplay();
    const slow = await payload({ rate: 20 });
    for (const commits of [3, 1, 5]) {
      const cut = new AbortController();
      let made = 0;
      const counting: OpenEventStore = {
        ...store,
        async commit(request) {
          const outcome = await store.commit(request);
          if (++made >= commits) cut.abort(new Error('killed'));
          return outcome;
        },
      };
      await expect(run(deps(counting), id, slow, cut.signal)).rejects.toThrow('killed');
    }
    expect((await replayed(store)).length).toBeLessThan(40);
    expect(await run(deps(), id, { ...slow, rate: 10_000 })).toEqual({
      sideEffects: 'on',
      events: 40,
      jobs: 40,
    });
    expect((await replayed(store)).map(({ body }) => body.id)).toEqual(ended);
    // Its end could not be recorded: it is run once more.
    expect(await run(deps(), id, slow)).toEqual({ sideEffects: 'on', events: 40, jobs: 40 });
    expect(await replayed(store)).toHaveLength(40);
    await run(deps(), newReplay(), await payload());
    expect(await replayed(store)).toHaveLength(80);
  });

  it('counts nothing as done that Redis may still lose: the ledger must have it', async () => {
    const { world, store, ledger, deps, payload } = await past(5);
    const [id, asked, cut] = [newReplay(), await payload(), new AbortController()];
    const positions = () => world.db.selectFrom('replay_positions').select(['seq', 'jobs']).execute();
    await ledger.stop();
    const running = run(deps(), id, asked, cut.signal).catch((error: unknown) => error);
    await until(async () => expect(await replayed(store)).toHaveLength(5));
    cut.abort(new Error('killed'));
    expect(await running).toBeInstanceOf(Error);
    expect(await positions()).toEqual([]);
    await start(world, await openStore(world), [createLedger(await ledgerPool(world), world.db)]);
    expect(await run(deps(), id, asked)).toMatchObject({ jobs: 5 });
    expect(await positions()).toMatchObject([{ jobs: 5 }]);
    expect(await replayed(store)).toHaveLength(5);
  });

  it('keeps to its rate', async () => {
    const { deps, payload } = await past(10);
    const begun = performance.now();
    await run(deps(), newReplay(), await payload({ rate: 10 }));
    expect(performance.now() - begun).toBeGreaterThan(850);
  });

  it('says nothing of where its reactor stands, when that is to be found again', async () => {
    const { world, store, pool, ledger, ended, deps, payload } = await past(3);
    const passed = await endJob(store, ends.succeeded(callbackUrl));
    await run(deps(), newReplay(), await payload());
    await ledger.stop();
    for (const { meta } of store.keys) await store.writer.redis.unlink(meta);
    await until(() => expect(store.fencedBecause()).toBeDefined());
    await recover(
      {
        ...{ db: world.db, pool, connection: store.writer, prefix: world.prefix, keys: store.keys },
        ...{
          retentionMs: 60_000,
          reactors: ['notifier'],
          rewind: async () => {},
          forgetReads: async () => {},
        },
      },
      { by: 'test', reason: 'a test' },
    );
    await until(() => expect(store.fencedBecause()).toBeUndefined());
    await start(world, store, [group(store)]);
    const live = async () =>
      (await told(store)).filter(({ meta }) => meta.reaction).map(({ body }) => body.id);
    await until(async () => expect(await live()).toEqual([...ended, passed]));
  });

  it('reads from files what was moved there', async () => {
    const { world, store, ended, deps, payload } = await past(3);
    const asked = await payload();
    const kept = new Map<string, Uint8Array>();
    const archives = createArchives({
      write: async (file, bytes) => void kept.set(file, bytes),
      read: async (file) => kept.get(file) ?? Promise.reject(new Error('there is no such file')),
    });
    const moved = { before: new Date('2100-01-01T00:00:00Z'), keepEvents: 0, by: 'test', reason: 'a test' };
    const files = await archiveLedger(world.db, archives.files, moved);
    expect(files.length).toBeGreaterThan(0);
    const own = { ...store, archives };
    const types = notifier.reactsTo;
    const planned = await planReplay({ db: world.db, store: own }, notifier, { types, ...ALWAYS }, 'v1');
    expect(planned).toMatchObject({ events: 3, jobs: { 'http.request': 3 }, digest: asked.digest });
    await run(deps(own), newReplay(), asked);
    expect((await replayed(store)).map(({ body }) => body.id)).toEqual(ended);
  });

  it('has nothing of persons who were erased', async () => {
    const { world, deps, plan, payload } = await past(2);
    const asked = await payload();
    await world.db
      .insertInto('erasures_v1')
      .values({
        ...{ id: 'acc-1', job_id: 'job', reason: null, erased_at: new Date(), completed_at: null },
        ...{ sessions: null, jobs: null, schedules: null, exports: null, partition: 0, seq: 1, version: 2 },
      })
      .execute();
    expect((await plan()).events).toBe(0);
    expect(await run(deps(), newReplay(), asked)).toMatchObject({ events: 0, jobs: 0 });
  });
});

describe('The plan of a replay', () => {
  it('says which events, and what would come of them', async () => {
    const { store, plan } = await past(3);
    await endJob(store, ends.failed(callbackUrl));
    await endJob(store, ends.cancelled());
    const planned = await plan();
    expect(planned).toMatchObject({
      events: 5,
      types: { JobCompleted: 3, JobDeadLettered: 1, JobCancelled: 1 },
      jobs: { 'http.request': 4 },
      partitions: [{ partition: 0, events: 5 }],
    });
    expect(await plan(notifier, { types: ['JobCancelled'] })).toMatchObject({ events: 1, jobs: {} });
    expect(await plan(notifier, { from: new Date('2099-01-01T00:00:00Z') })).toMatchObject({ events: 0 });
  });

  it('is the same for the same events, and another for others, and for code that decides otherwise', async () => {
    const { store, plan } = await past(2);
    const until = new Date(Date.now() + 1);
    const { digest } = await plan();
    expect((await plan()).digest).toBe(digest);
    expect((await plan(notifier, { code: 'v2' })).digest).not.toBe(digest);
    const other: Reactor = { ...notifier, react: () => undefined };
    expect((await plan(other)).digest).not.toBe(digest);
    await new Promise((resolve) => setTimeout(resolve, 5));
    await endJob(store, ends.succeeded(callbackUrl));
    expect((await plan()).digest).not.toBe(digest);
    expect((await plan(notifier, { to: until })).digest).toBe(digest);
  });
});
