import { describe, expect, it } from 'vitest';
import { memberName, ownerOf } from '../../src/consumers/assignment.ts';
import { NoRetryError, RetryLaterError } from '../../src/consumers/define-job.ts';
import type { WorkerDeps } from '../../src/consumers/workers.ts';
import type { JobId } from '../../src/domain/ids.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { eventsInLog } from '../support/log.ts';
import type { World } from '../support/world.ts';
import { type Run, runWorkers, testJob } from './running.ts';
import { enqueue, jobState, openStore, openWorld, until } from './support.ts';

const start = (world: World, store: OpenEventStore, run: Run, more: Partial<WorkerDeps> = {}) =>
  runWorkers(world, store, [testJob(run)], more);

/** The id of an instance that should own every partition beside that member. */
function takesAllFrom(member: string, partitions: number): string {
  for (let i = 0; ; i++) {
    const other = memberName(`other-${i}`, 'n');
    const owners = Array.from({ length: partitions }, (_, partition) => ownerOf(partition, [member, other]));
    if (owners.every((owner) => owner === other)) return `other-${i}`;
  }
}

async function eventsOf(store: OpenEventStore, partition = 0) {
  return (await eventsInLog(store, partition)).map(({ type, data, meta }) => ({
    type,
    data: JSON.parse(data),
    meta: JSON.parse(meta),
  }));
}

describe('A job', () => {
  it('runs, and its result is in its last event; nothing of it is left in the queue', async () => {
    const { world, store } = await openWorld();
    await start(world, store, async ({ job, progress }) => {
      progress(50);
      return { doubled: (job.payload as { n: number }).n * 2, attempt: job.attempt };
    });
    const jobId = await enqueue(store, { payload: { n: 21 }, owner: 'acc-1' });
    await until(async () =>
      expect(await jobState(store, jobId)).toEqual({ phase: 'succeeded', attempts: 1, owner: 'acc-1' }),
    );
    const events = await eventsOf(store);
    expect(events.map(({ type }) => type)).toEqual([
      'JobEnqueued',
      'JobStarted',
      'JobProgressed',
      'JobCompleted',
    ]);
    expect(events.at(-1)?.data.result).toEqual({ doubled: 42, attempt: 1 });
    expect(new Set(events.map(({ meta }) => meta.correlation)).size).toBe(1);
    expect(events.map(({ meta }) => meta.owner)).toEqual(['acc-1', 'acc-1', 'acc-1', 'acc-1']);
    const key = store.keys[0]?.work('default', 'normal') ?? '';
    expect(await store.reader.redis.xlen(key)).toBe(0);
    expect(await store.reader.redis.xpending(key, 'lane')).toMatchObject([0, null, null, null]);
  });

  it('is not tried again before the time that its handler names', async () => {
    const { world, store } = await openWorld();
    const failedAt: number[] = [];
    await start(world, store, async ({ job }) => {
      if (job.attempt > 1) return null;
      failedAt.push(Date.now());
      throw new RetryLaterError('busy', { retryAfterMs: 700 });
    });
    const jobId = await enqueue(store);
    await until(async () => expect((await jobState(store, jobId)).phase).toBe('succeeded'));
    const failed = (await eventsOf(store)).find(({ type }) => type === 'JobAttemptFailed');
    expect(Date.parse(failed?.data.retryAt) - (failedAt[0] ?? 0)).toBeGreaterThanOrEqual(700);
    expect(Date.now() - (failedAt[0] ?? 0)).toBeGreaterThanOrEqual(700);
  });

  it('is tried again after a failure, and dead-lettered after its last attempt', async () => {
    const { world, store } = await openWorld();
    const attempts: number[] = [];
    await start(world, store, async ({ job }) => {
      attempts.push(job.attempt);
      throw new Error('no\u0000luck');
    });
    const jobId = await enqueue(store, { maxAttempts: 3 });
    await until(async () =>
      expect(await jobState(store, jobId)).toMatchObject({ phase: 'failed', attempts: 3 }),
    );
    expect(attempts).toEqual([1, 2, 3]);
    const last = (await eventsOf(store)).at(-1);
    expect(last?.type).toBe('JobDeadLettered');
    expect(last?.data.error.message).toBe('no\ufffdluck');
  });

  it('is dead-lettered at once when its handler says that trying again is of no use', async () => {
    const { world, store } = await openWorld();
    await start(world, store, async () => {
      throw new NoRetryError('hopeless');
    });
    const jobId = await enqueue(store, { maxAttempts: 3 });
    await until(async () =>
      expect(await jobState(store, jobId)).toMatchObject({ phase: 'failed', attempts: 1 }),
    );
  });

  it('that takes too long is aborted and counts as failed', async () => {
    const { world, store } = await openWorld();
    const reasons: unknown[] = [];
    await start(world, store, async ({ signal }) => {
      await new Promise((resolve) => signal.addEventListener('abort', resolve));
      reasons.push(signal.reason);
    });
    const jobId = await enqueue(store, { timeoutSeconds: 1, maxAttempts: 1 });
    await until(async () =>
      expect(await jobState(store, jobId)).toMatchObject({ phase: 'failed', attempts: 1 }),
    );
    expect(reasons).toMatchObject([{ name: 'JobTimeoutError' }]);
  });

  it('that three deploys drained is still at its first attempt, runs beside the others, and succeeds', async () => {
    const { world, store } = await openWorld();
    let jobId: JobId | undefined;
    for (let deploy = 1; deploy <= 3; deploy++) {
      const started = Promise.withResolvers<void>();
      const worker = await start(
        world,
        store,
        ({ signal }) => {
          started.resolve();
          return new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
        },
        { drainMs: 50 },
      );
      jobId ??= await enqueue(store);
      await started.promise;
      await worker.stop();
      expect(await jobState(store, jobId)).toMatchObject({ phase: 'queued', attempts: 0, takedowns: 0 });
    }
    if (!jobId) throw new Error('no deploy');
    const id = jobId;
    await start(world, store, async ({ job }) => ({ attempt: job.attempt }));
    await until(async () => expect(await jobState(store, id)).toEqual({ phase: 'succeeded', attempts: 1 }));
    const events = (await eventsOf(store)).filter(({ type }) => type !== 'JobEnqueued');
    expect(events.map(({ type }) => type)).toEqual([
      ...Array(3).fill(['JobStarted', 'JobInterrupted']).flat(),
      'JobStarted',
      'JobCompleted',
    ]);
    const starts = events.filter(({ type }) => type === 'JobStarted').map(({ data }) => data);
    expect(starts).toMatchObject(Array(4).fill({ attempt: 1, recovered: false }));
    expect(starts.filter(({ alone }) => alone)).toEqual([]);
  });

  it('that is running when the worker stops may end, if it ends in time', async () => {
    const { world, store } = await openWorld();
    const started = Promise.withResolvers<void>();
    const finish = Promise.withResolvers<void>();
    const workers = await start(world, store, async () => {
      started.resolve();
      await finish.promise;
    });
    const jobId = await enqueue(store);
    await started.promise;
    const stopped = workers.stop();
    finish.resolve();
    await stopped;
    expect(await jobState(store, jobId)).toEqual({ phase: 'succeeded', attempts: 1 });
  });

  it('of a type that this worker does not know is left alone, and the others go on', async () => {
    const { world, store } = await openWorld();
    await start(world, store, async () => null);
    const unknown = await enqueue(store, { type: 'from-the-future' });
    const known = await enqueue(store);
    await until(async () => expect((await jobState(store, known)).phase).toBe('succeeded'));
    expect((await jobState(store, unknown)).phase).toBe('queued');
  });
});

describe('Workers', () => {
  it('run no more jobs at once than they may, and all of them in the end', async () => {
    const { world, store } = await openWorld();
    let running = 0;
    let most = 0;
    await start(
      world,
      store,
      async () => {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 5));
        running--;
      },
      { concurrency: 3 },
    );
    const jobs = await Promise.all(
      Array.from({ length: 40 }, (_, index) => enqueue(store, { partition: index % 2 })),
    );
    await until(async () => {
      for (const job of jobs) expect((await jobState(store, job)).phase).toBe('succeeded');
    });
    expect(most).toBe(3);
  });

  it('begin with what is urgent, and do not starve what is not', async () => {
    const { world, store } = await openWorld({ partitions: 1 });
    const order: string[] = [];
    const jobs = [];
    for (let i = 0; i < 60; i++) jobs.push(await enqueue(store, { priority: 'low', payload: 'low' }));
    for (let i = 0; i < 60; i++) jobs.push(await enqueue(store, { priority: 'high', payload: 'high' }));
    await start(
      world,
      store,
      async ({ job }) => {
        order.push(String(job.payload));
      },
      { concurrency: 1 },
    );
    await until(() => expect(order).toHaveLength(120));
    expect(order.slice(0, 12)).toEqual(Array(12).fill('high'));
    const lowsAmongFirst = order.slice(0, 60).filter((priority) => priority === 'low').length;
    expect(lowsAmongFirst).toBeGreaterThan(2);
    expect(lowsAmongFirst).toBeLessThan(20);
  });

  it('whose connection breaks under them run every job, and complete each once', async () => {
    const { world, store } = await openWorld();
    const runs = new Map<string, number>();
    await start(world, store, async ({ job }) => {
      runs.set(job.id, (runs.get(job.id) ?? 0) + 1);
    });
    const own = await openStore(world);
    const jobs: JobId[] = [];
    for (let i = 0; i < 60; i++) {
      jobs.push(await enqueue(own, { partition: i % 2 }));
      // What takes the work and what commits is cut off, with replies on the way.
      if (i % 10 === 5) store.writer.redis.stream.destroy();
    }
    await until(async () => {
      for (const job of jobs) expect(await jobState(own, job)).toEqual({ phase: 'succeeded', attempts: 1 });
    });
    const types = [...(await eventsOf(own, 0)), ...(await eventsOf(own, 1))].map(({ type }) => type);
    expect(types.filter((type) => type === 'JobCompleted')).toHaveLength(60);
    for (const keys of own.keys) expect(await own.reader.redis.xlen(keys.work('default', 'normal'))).toBe(0);
  });

  it('keep a partition that should move while a long job runs there, and its other jobs go on', async () => {
    const { world, store } = await openWorld();
    const long = Promise.withResolvers<void>();
    const run: Run = async ({ job }) => (job.payload === 'long' ? long.promise : undefined);
    const first = await start(world, store, run);
    const jobs = await Promise.all([0, 1].map((partition) => enqueue(store, { partition, payload: 'long' })));
    await until(async () => {
      for (const job of jobs) expect((await jobState(store, job)).phase).toBe('running');
    });
    await start(world, store, run, { instanceId: takesAllFrom(first.member, store.partitions) });
    await until(async () => expect(first.held()).toHaveLength(2));
    const short = await Promise.all([0, 1].map((partition) => enqueue(store, { partition })));
    await until(async () => {
      for (const job of short) expect((await jobState(store, job)).phase).toBe('succeeded');
    });
    long.resolve();
    await until(() => expect(first.held()).toEqual([]));
    for (const job of jobs) expect(await jobState(store, job)).toEqual({ phase: 'succeeded', attempts: 1 });
  });

  it('run what was given to a reply that never came, as soon as the connection is back', async () => {
    const { world, store } = await openWorld({ partitions: 1 });
    const started = Promise.withResolvers<void>();
    const long = Promise.withResolvers<void>();
    const run: Run = async ({ job }) => {
      if (job.payload !== 'long') return;
      started.resolve();
      await long.promise;
    };
    await start(world, store, run, { concurrency: 1 });
    await enqueue(store, { payload: 'long' });
    await started.promise;
    const jobs = [await enqueue(store)];
    const key = store.keys[0]?.work('default', 'normal') ?? '';
    await until(async () => expect((await store.reader.redis.xpending(key, 'lane'))[0]).toBe(2));
    // The lane waits for a slot. What is given out now is pending, and nobody has it.
    for (let i = 0; i < 3; i++) jobs.push(await enqueue(store));
    const given = await store.reader.redis.xreadgroup(
      'GROUP',
      'lane',
      'p0',
      'COUNT',
      10,
      'STREAMS',
      key,
      '>',
    );
    expect(given?.[0]?.[1]).toHaveLength(3);
    store.writer.redis.stream.destroy();
    await store.writer.whenReady(5_000);
    long.resolve();
    await until(async () => {
      for (const job of jobs) expect(await jobState(store, job)).toEqual({ phase: 'succeeded', attempts: 1 });
    });
  });

  it('empty the queues of a Redis that is too full for commands, and start nothing in one that is fuller still', async () => {
    const { world, store } = await openWorld({ partitions: 1 });
    let full = true;
    const guard = { ...store.guard, refuses: (what: string) => what === 'command' || full };
    const jobId = await enqueue(store);
    const retried = await enqueue(store);
    const attempts: string[] = [];
    await start(world, { ...store, guard }, async ({ job }) => {
      attempts.push(job.id);
      if (job.id === retried && job.attempt === 1) throw new Error('once');
    });
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(attempts).toEqual([]);
    full = false;
    await until(async () => {
      for (const job of [jobId, retried]) expect((await jobState(store, job)).phase).toBe('succeeded');
    });
  });

  it('that stop hand over at once, and a new one has every partition', async () => {
    const { world, store } = await openWorld();
    const first = await start(world, store, async () => null);
    expect(first.held()).toHaveLength(6); // lane, timers and schedules of two partitions
    const second = await start(world, store, async () => null);
    await first.stop();
    const stopped = Date.now();
    await until(() => expect(second.held()).toHaveLength(6));
    expect(Date.now() - stopped).toBeLessThan(8_000); // a lease would have lasted for fifteen
  });
});
