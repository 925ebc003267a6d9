import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { cancelJob } from '../../src/commands/jobs/requests.ts';
import type { JobContext } from '../../src/consumers/define-job.ts';
import { type JobId, partitionOf } from '../../src/domain/ids.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { type CommitRequest, StoreUnavailableError } from '../../src/eventstore/types.ts';
import { eventsInLog } from '../support/log.ts';
import type { World } from '../support/world.ts';
import { type Run, runWorkers, testJob } from './running.ts';
import { commandsOn, enqueue, history, jobState, openWorld, until } from './support.ts';

/** Jobs of a type that has shown to be over soon: begun at once, and recorded with their end. */

const workersOn = (world: World, store: OpenEventStore, run: Run, drainMs = 2_000) =>
  runWorkers(
    world,
    store,
    [testJob((context) => (isWarmUp(context) ? Promise.resolve(null) : run(context)))],
    // Long enough that a busy machine does not change what is tested.
    { soonMs: 700, drainMs },
  );

const isWarmUp = ({ job }: JobContext<unknown>) => job.payload === 'warm-up';

/** Jobs that are over soon: enough of them that the type is known for it. */
async function warmUp(store: OpenEventStore): Promise<void> {
  const ids = await Promise.all(Array.from({ length: 12 }, () => enqueue(store, { payload: 'warm-up' })));
  for (const id of ids) await until(async () => expect((await jobState(store, id)).phase).toBe('succeeded'));
}

/** A store that tells of each commit, and may refuse it. */
function watched(store: OpenEventStore, before: (request: CommitRequest) => void): OpenEventStore {
  return {
    ...store,
    commit: async (request) => {
      before(request);
      return store.commit(request);
    },
  };
}

const typesOf = async (store: OpenEventStore, id: JobId) =>
  (await history(store, id)).map(({ type }) => type);

const writes = (request: CommitRequest, id: JobId | undefined) =>
  request.appends.find(({ streamId }) => streamId === id)?.events.map(({ type }) => type);

describe('A job of a type that is over soon', () => {
  it('has its start and its end in one commit, each with its own time', async () => {
    const { world, store } = await openWorld();
    const commits: (string[] | undefined)[] = [];
    let id: JobId | undefined;
    const telling = watched(store, (request) => commits.push(writes(request, id)));
    await workersOn(world, telling, async () => {
      await sleep(30);
      return 'done';
    });
    await warmUp(store);
    id = await enqueue(store);
    await until(async () => expect((await jobState(store, id as JobId)).phase).toBe('succeeded'));
    expect(commits.filter(Boolean)).toEqual([['JobStarted', 'JobCompleted']]);
    const log = (await eventsInLog(store)).slice(-2);
    const [started, ended] = log.map(({ meta }) => Date.parse(JSON.parse(meta).at));
    expect((ended ?? 0) - (started ?? 0)).toBeGreaterThanOrEqual(20);
  });

  it('is known to run, and can say how far it is, if for once it takes longer', async () => {
    const { world, store } = await openWorld();
    const end = Promise.withResolvers<void>();
    await workersOn(world, store, async ({ progress }) => {
      progress(40);
      await end.promise;
    });
    await warmUp(store);
    const id = await enqueue(store);
    await until(async () => expect(await typesOf(store, id)).toContain('JobProgressed'));
    expect(await jobState(store, id)).toMatchObject({ phase: 'running' });
    end.resolve();
    await until(async () => expect((await jobState(store, id)).phase).toBe('succeeded'));
    expect(await typesOf(store, id)).toEqual(['JobEnqueued', 'JobStarted', 'JobProgressed', 'JobCompleted']);
  });

  it('is left alone while its state cannot be read, and runs when it can; those beside it run', async () => {
    const { world, store } = await openWorld();
    await workersOn(world, store, async () => 'done');
    await warmUp(store);
    const runAt = new Date(Date.now() + 1_000).toISOString();
    const id = await commandsOn(store, world.prefix).enqueue({ runAt });
    const keys = store.keys[partitionOf(id)];
    const key = keys?.state(id) ?? '';
    const state = (await store.writer.redis.get(key)) ?? '';
    await store.writer.redis.set(key, state.slice(0, -5));
    const work = keys?.work('default', 'normal') ?? '';
    await until(async () => expect((await store.reader.redis.xpending(work, 'lane'))[0]).toBe(1));
    const beside = await enqueue(store);
    await until(async () => expect((await jobState(store, beside)).phase).toBe('succeeded'));
    expect(await typesOf(store, id)).toEqual(['JobEnqueued']);
    await store.writer.redis.set(key, state);
    await until(async () => expect((await jobState(store, id)).phase).toBe('succeeded'));
    expect(await typesOf(store, id)).toEqual(['JobEnqueued', 'JobStarted', 'JobCompleted']);
  });

  it('was cancelled before its start was recorded: its result counts for nothing, those beside it do', async () => {
    const { world, store } = await openWorld();
    const { deps, context } = commandsOn(store, world.prefix);
    const ran: string[] = [];
    await workersOn(world, store, async ({ job }) => {
      ran.push(job.id);
      if (job.payload === 'cancel') await cancelJob(deps, context(), { jobId: job.id });
      return 'done';
    });
    await warmUp(store);
    const payloads = ['a', 'b', 'cancel', 'c', 'd'];
    const ids = await Promise.all(payloads.map((payload) => enqueue(store, { payload })));
    await until(async () => {
      const phases = await Promise.all(ids.map(async (id) => (await jobState(store, id)).phase));
      expect(phases).toEqual(['succeeded', 'succeeded', 'cancelled', 'succeeded', 'succeeded']);
    });
    expect(ran.toSorted()).toEqual(ids.toSorted());
    expect(await typesOf(store, ids[2] as JobId)).toEqual(['JobEnqueued', 'JobCancelled']);
    const work = store.keys[0]?.work('default', 'normal') ?? '';
    await until(async () => expect(await store.reader.redis.xlen(work)).toBe(0));
  });

  it('is stopped if it takes longer, and was cancelled before its start was recorded', async () => {
    const { world, store } = await openWorld();
    const { deps, context } = commandsOn(store, world.prefix);
    const stopped = Promise.withResolvers<unknown>();
    await workersOn(world, store, async ({ job, signal }) => {
      await cancelJob(deps, context(), { jobId: job.id });
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      stopped.resolve(signal.reason);
      throw signal.reason;
    });
    await warmUp(store);
    const id = await enqueue(store);
    expect(await stopped.promise).toMatchObject({ name: 'JobCancelledError' });
    expect(await typesOf(store, id)).toEqual(['JobEnqueued', 'JobCancelled']);
  });

  it('runs again, its start recorded first, when its worker ended between its end and the commit', async () => {
    const { world, store } = await openWorld();
    let id: JobId | undefined;
    const failing = watched(store, (request) => {
      if (writes(request, id)) throw new StoreUnavailableError('gone');
    });
    const phases: string[] = [];
    const run: Run = async ({ job }) => {
      phases.push((await jobState(store, job.id)).phase);
    };
    const one = await workersOn(world, failing, run, 300);
    await warmUp(store);
    id = await enqueue(store);
    await until(() => expect(phases).toEqual(['queued']));
    await one.stop();
    expect(await typesOf(store, id)).toEqual(['JobEnqueued']);

    await workersOn(world, store, run);
    await until(async () => expect((await jobState(store, id as JobId)).phase).toBe('succeeded'));
    expect(phases).toEqual(['queued', 'running']);
    expect(await typesOf(store, id)).toEqual(['JobEnqueued', 'JobStarted', 'JobCompleted']);
  });
});

it('A job of a type that nobody knows yet has its start recorded before it begins', async () => {
  const { world, store } = await openWorld();
  const phases: string[] = [];
  await workersOn(world, store, async ({ job }) => {
    phases.push((await jobState(store, job.id)).phase);
  });
  const id = await enqueue(store);
  await until(async () => expect((await jobState(store, id)).phase).toBe('succeeded'));
  expect(phases).toEqual(['running']);
});
