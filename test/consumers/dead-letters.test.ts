import { createHash } from 'node:crypto';
import { Type } from 'typebox';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { CommandContext } from '../../src/commands/handle.ts';
import { cancelJob, enqueueJob, type JobCommandDeps, retryJob } from '../../src/commands/jobs/requests.ts';
import { settlingJobs } from '../../src/consumers/dead-letters.ts';
import { defineJob, NoRetryError } from '../../src/consumers/define-job.ts';
import { publishHint } from '../../src/consumers/hints.ts';
import { createLedger } from '../../src/consumers/ledger.ts';
import { startProjectors } from '../../src/consumers/projectors.ts';
import { startWorkers } from '../../src/consumers/workers.ts';
import { type SettlingPayload, settlingJob } from '../../src/domain/dead-letters.ts';
import { codec } from '../../src/domain/events.ts';
import type { JobId } from '../../src/domain/ids.ts';
import { jobOf } from '../../src/domain/job-types.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import { findDeadLetter } from '../../src/projections/dead-letters/queries.ts';
import { projection } from '../../src/projections/dead-letters/table.ts';
import { createProjectionGroup } from '../../src/projections/runner.ts';
import { jobDeps, jobState, openStore, openWorld, roleDeps, until } from './support.ts';

const PARTITIONS = 2;

async function setting() {
  const { world, store } = await openWorld({ partitions: PARTITIONS });
  const run: string[] = [];
  let healthy = false;
  const job = defineJob({
    type: 'test',
    enqueuedBy: 'accounts',
    queue: 'default',
    maxAttempts: 1,
    timeoutSeconds: 60,
    retry: { baseMs: 20, capMs: 100 },
    payload: Type.Object({ name: Type.String() }),
    result: Type.Unknown(),
    async run({ job }) {
      run.push(job.payload.name);
      if (!healthy) throw new NoRetryError(`${job.payload.name} is not to be`);
      return null;
    },
  });
  const commands: JobCommandDeps = {
    ...jobDeps(store),
    hmac: (purpose, text) => createHash('sha256').update(`${purpose}\n${text}`).digest('hex'),
    idempotencyRetentionMs: 60_000,
    awaitDurability: async () => true,
    hint: {
      timer: () => {},
      cancel: (jobId) => publishHint(store.writer.redis, world.prefix, 'cancels', jobId),
    },
  };
  const context: CommandContext = {
    actor: 'acc-op',
    owner: 'acc-op',
    correlation: 'a request',
    durability: 'memory',
  };
  const pool = openPool({ url: world.databaseUrl, max: 2, applicationName: 'test' });
  const projectors = await startProjectors({
    ...roleDeps(world, store),
    groups: [
      createLedger(pool, world.db, { observe: () => {} }),
      createProjectionGroup({ db: world.db, projection, codec }),
    ],
    trim: { windowEvents: 1_000, retentionMs: 60_000, everyMs: 5_000 },
  });
  onTestFinished(async () => {
    await projectors.stop();
    await pool.end();
  });
  await projectors.ready();
  return {
    world,
    store,
    run,
    commands,
    heal() {
      healthy = true;
      run.length = 0;
    },
    async worker(settling: Partial<JobCommandDeps> = {}) {
      const own = await openStore(world, PARTITIONS);
      const deps = { db: world.db, commands: { ...commands, store: own, ...settling } };
      const workers = await startWorkers({
        ...roleDeps(world, own),
        ...jobDeps(own),
        jobs: [job, ...settlingJobs(deps)],
        concurrency: 4,
        drainMs: 1_000,
        random: Math.random,
      });
      let stopped: Promise<void> | undefined;
      const stop = () => (stopped ??= workers.stop());
      onTestFinished(stop);
      await workers.ready();
      return { stop };
    },
    async enqueue(name: string, more = {}): Promise<JobId> {
      const accepted = await enqueueJob(commands, context, { ...jobOf(job, { name }), ...more });
      if (accepted.kind !== 'done') throw new Error(accepted.kind);
      return accepted.body.id;
    },
    dead: (ids: readonly JobId[]) =>
      until(async () => {
        const letters = await Promise.all(ids.map((id) => findDeadLetter(world.db, id)));
        expect(letters.map((letter) => letter?.status)).toEqual(ids.map(() => 'dead'));
      }),
    async settle(settling: 'redrive' | 'discard', wanted: Partial<SettlingPayload> = {}): Promise<JobId> {
      const { correlation } = context;
      const payload = {
        filter: {},
        heads: await store.heads(),
        rate: 1000,
        reason: 'the mail server is back',
        actor: 'acc-op',
        correlation: `settling ${correlation}`,
        ...wanted,
      };
      const accepted = await enqueueJob(commands, context, settlingJob(settling, payload));
      if (accepted.kind !== 'done') throw new Error(accepted.kind);
      return accepted.body.id;
    },
    eventsOf: (id: JobId) => store.history(id, { after: 0 }),
    async ended(id: JobId) {
      await until(async () => expect((await jobState(store, id)).phase).toBe('succeeded'), 30_000);
      const last = (await store.history(id, { after: 0 })).at(-1);
      return JSON.parse(last?.data ?? '{}').result;
    },
    typesOf: async (id: JobId) => (await store.history(id, { after: 0 })).map(({ type }) => type),
  };
}

const names = (count: number) => Array.from({ length: count }, (_, n) => `job ${n}`);

describe('redriving dead letters', () => {
  it('runs each of them again, once, and says in each who wanted it and why', async () => {
    const { enqueue, worker, dead, heal, settle, ended, run, eventsOf, store } = await setting();
    await worker();
    const ids = await Promise.all(names(12).map((name) => enqueue(name)));
    await dead(ids);
    heal();
    const operation = await settle('redrive');
    expect(await ended(operation)).toEqual({ done: 12, failed: 0, total: 12 });
    await until(async () => {
      for (const id of ids) expect((await jobState(store, id)).phase).toBe('succeeded');
    });
    expect(run.toSorted()).toEqual(names(12).toSorted());
    const retried = (await eventsOf(ids[0] as JobId)).find(({ type }) => type === 'JobRetried');
    expect(JSON.parse(retried?.meta ?? '{}')).toMatchObject({
      actor: 'acc-op',
      owner: 'acc-op',
      reason: 'the mail server is back',
    });
  });

  it('takes only those that were dead when it was asked for: what dies again stays dead', async () => {
    const { enqueue, worker, dead, settle, ended, typesOf } = await setting();
    await worker();
    const ids = await Promise.all(names(3).map((name) => enqueue(name)));
    await dead(ids);
    const operation = await settle('redrive', { rate: 20 });
    expect(await ended(operation)).toEqual({ done: 3, failed: 0, total: 3 });
    await dead(ids);
    for (const id of ids) expect((await typesOf(id)).filter((type) => type === 'JobRetried')).toHaveLength(1);
  });

  it.each([
    ['has redriven', true],
    ['has redriven, and what died again since,', false],
  ])('leaves out what somebody else %s in between, and says how many', async (_what, mended) => {
    const { enqueue, worker, dead, heal, settle, ended, commands, typesOf, store } = await setting();
    const first = await worker();
    const ids = await Promise.all(names(3).map((name) => enqueue(name)));
    await dead(ids);
    await first.stop();
    if (mended) heal();
    const operation = await settle('redrive');
    const [own] = ids;
    if (!own) throw new Error('no job');
    // The other comes between the page, in which the letter is dead, and the decision.
    const late = Promise.withResolvers<void>();
    const waiting = await openStoreThatWaits(commands, own, late.promise);
    await worker({ store: waiting });
    await until(() => expect(waiting.asked()).toBe(true));
    await retryJob(commands, { actor: 'acc-2', correlation: 'c', durability: 'memory' }, { jobId: own });
    const phase = mended ? 'succeeded' : 'failed';
    await until(async () => expect((await jobState(store, own)).phase).toBe(phase));
    late.resolve();
    expect(await ended(operation)).toEqual({ done: 2, failed: 1, total: 3 });
    expect((await typesOf(own)).filter((type) => type === 'JobRetried')).toHaveLength(1);
  });

  it('that was cut off goes on with another worker, and does none of it twice', async () => {
    const { enqueue, worker, dead, heal, settle, ended, typesOf, store } = await setting();
    const first = await worker();
    const ids = await Promise.all(names(30).map((name) => enqueue(name)));
    await dead(ids);
    heal();
    const operation = await settle('redrive', { rate: 20 });
    await until(async () => {
      const phases = await Promise.all(ids.map(async (id) => (await jobState(store, id)).phase));
      expect(phases.filter((phase) => phase !== 'failed').length).toBeGreaterThan(5);
    });
    await first.stop();
    expect((await jobState(store, operation)).phase).not.toBe('succeeded');
    await worker();
    expect(await ended(operation)).toEqual({ done: 30, failed: 0, total: 30 });
    for (const id of ids) expect((await typesOf(id)).filter((type) => type === 'JobRetried')).toHaveLength(1);
  });

  it('ends when it is cancelled: what it has not come to stays dead', async () => {
    const { enqueue, worker, dead, heal, settle, commands, store } = await setting();
    await worker();
    const ids = await Promise.all(names(20).map((name) => enqueue(name)));
    await dead(ids);
    heal();
    const operation = await settle('redrive', { rate: 5 });
    const phases = async () => Promise.all(ids.map(async (id) => (await jobState(store, id)).phase));
    await until(async () => expect(await phases()).toContain('succeeded'));
    await cancelJob(
      commands,
      { actor: 'acc-op', correlation: 'c', durability: 'memory' },
      { jobId: operation },
    );
    await until(async () => expect((await jobState(store, operation)).phase).toBe('cancelled'), 15_000);
    const left = (await phases()).filter((phase) => phase === 'failed').length;
    expect(left).toBeGreaterThan(0);
    await new Promise((resolve) => setTimeout(resolve, 500)); // another would have been done by then
    expect((await phases()).filter((phase) => phase === 'failed')).toHaveLength(left);
  });

  it('goes no faster than it may', async () => {
    const { enqueue, worker, dead, heal, settle, ended, eventsOf } = await setting();
    await worker();
    const ids = await Promise.all(names(10).map((name) => enqueue(name)));
    await dead(ids);
    heal();
    await ended(await settle('redrive', { rate: 10 }));
    const times = await Promise.all(
      ids.map(async (id) => {
        const retried = (await eventsOf(id)).find(({ type }) => type === 'JobRetried');
        return Date.parse(JSON.parse(retried?.meta ?? '{}').at);
      }),
    );
    expect(Math.max(...times) - Math.min(...times)).toBeGreaterThan(850);
  });

  it('runs the letter of an ordering key first, and then what waited behind it, in order', async () => {
    const { enqueue, worker, dead, heal, settle, ended, run } = await setting();
    await worker();
    const first = await enqueue('first', { orderingKey: 'ada' });
    await dead([first]);
    for (const name of ['second', 'third', 'fourth']) await enqueue(name, { orderingKey: 'ada' });
    await enqueue('another', { orderingKey: 'bob' });
    await until(() => expect(run).toEqual(['first', 'another']));
    heal();
    await ended(await settle('redrive', { filter: { orderingKey: 'ada' } }));
    await until(() => expect(run).toEqual(['first', 'second', 'third', 'fourth']));
  });
});

describe('discarding dead letters', () => {
  it('gives up those that are meant; what waited behind them goes on, in order', async () => {
    const { enqueue, worker, dead, heal, settle, ended, run, world, store } = await setting();
    await worker();
    const first = await enqueue('first', { orderingKey: 'ada' });
    const other = await enqueue('other');
    await dead([first, other]);
    for (const name of ['second', 'third']) await enqueue(name, { orderingKey: 'ada' });
    heal();
    const operation = await settle('discard', { filter: { ids: [first] }, reason: 'a duplicate' });
    expect(await ended(operation)).toEqual({ done: 1, failed: 0, total: 1 });
    await until(() => expect(run).toEqual(['second', 'third']));
    expect(await jobState(store, first)).toMatchObject({ phase: 'failed', discarded: true });
    await until(async () =>
      expect(await findDeadLetter(world.db, first)).toMatchObject({
        status: 'discarded',
        settledBy: 'acc-op',
        settledFor: 'a duplicate',
      }),
    );
    expect(await findDeadLetter(world.db, other)).toMatchObject({ status: 'dead' });
  });
});

/** A store that holds back one job's state until it may be told. */
async function openStoreThatWaits({ store }: JobCommandDeps, id: JobId, may: Promise<void>) {
  const asked = vi.fn();
  const load: typeof store.load = async (streamId, fold) => {
    if (streamId === id) {
      asked();
      await may;
    }
    return store.load(streamId, fold);
  };
  return { ...store, load, asked: () => asked.mock.calls.length > 0 };
}
