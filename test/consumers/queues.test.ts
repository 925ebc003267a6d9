import { Redis } from 'ioredis';
import { Type } from 'typebox';
import { describe, expect, it, onTestFinished } from 'vitest';
import { pauseQueue, type QueueCommandDeps, resumeQueue } from '../../src/commands/queues.ts';
import { defineJob } from '../../src/consumers/define-job.ts';
import { publishHint } from '../../src/consumers/hints.ts';
import { queueDepths } from '../../src/consumers/queue-depths.ts';
import { startWorkers } from '../../src/consumers/workers.ts';
import type { JobId } from '../../src/domain/ids.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { randomText } from '../support/connections.ts';
import { eventsInLog } from '../support/log.ts';
import type { World } from '../support/world.ts';
import { enqueue, jobDeps, jobState, openStore, openWorld, roleDeps, until } from './support.ts';

const context = { actor: 'acc-op', correlation: 'c', durability: 'memory', reason: 'a test' } as const;

function operator(world: World, store: OpenEventStore, hints = true) {
  const deps: QueueCommandDeps = {
    ...jobDeps(store),
    hmac: () => randomText(32),
    idempotencyRetentionMs: 60_000,
    awaitDurability: async () => true,
    hint: {
      queue: (queue) => hints && publishHint(store.writer.redis, world.prefix, 'queues', queue),
    },
  };
  return {
    pause: () => pauseQueue(deps, context, 'default'),
    resume: () => resumeQueue(deps, context, 'default'),
  };
}

async function setting(partitions = 2) {
  const { world, store } = await openWorld({ partitions });
  const redis = new Redis(world.redisUrl);
  onTestFinished(() => redis.disconnect());
  const ends = new Map<JobId, PromiseWithResolvers<void>>();
  const begun: JobId[] = [];
  const job = defineJob({
    type: 'test',
    enqueuedBy: 'accounts',
    queue: 'default',
    maxAttempts: 3,
    timeoutSeconds: 60,
    retry: { baseMs: 20, capMs: 100 },
    payload: Type.Object({ long: Type.Optional(Type.Boolean()) }),
    result: Type.Unknown(),
    async run({ job }) {
      begun.push(job.id);
      if (!job.payload.long) return null;
      const end = Promise.withResolvers<void>();
      ends.set(job.id, end);
      await end.promise;
      return null;
    },
  });
  return {
    world,
    store,
    redis,
    begun,
    end: (id: JobId) => ends.get(id)?.resolve(),
    /** Another process, as far as Redis can tell: with a store and connections of its own. */
    async worker() {
      const own = await openStore(world, partitions);
      const workers = await startWorkers({
        ...roleDeps(world, own),
        ...jobDeps(own),
        jobs: [job],
        concurrency: 4,
        drainMs: 1_000,
        random: Math.random,
      });
      onTestFinished(() => workers.stop());
      await workers.ready();
    },
    depth: async () => (await queueDepths(redis, store.keys, ['default', 'email'])).get('default'),
  };
}

const rest = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe('a paused queue', () => {
  it('begins nothing in any process, while what runs ends and more is taken in; resumed, it goes on at once', async () => {
    const { world, store, begun, end, worker, depth } = await setting();
    const { pause, resume } = operator(world, store);
    await Promise.all([worker(), worker()]);
    const running = await enqueue(store, { payload: { long: true } });
    await until(() => expect(begun).toEqual([running]));
    expect(await pause()).toMatchObject({ kind: 'done', body: { id: 'default', version: 1, paused: true } });
    await rest(1_000); // the promise is: within a second
    const waiting: JobId[] = [];
    for (let n = 0; n < 8; n++) waiting.push(await enqueue(store, { partition: n % 2 }));
    end(running);
    await until(async () => expect((await jobState(store, running)).phase).toBe('succeeded'));
    await rest(500);
    expect(begun).toEqual([running]);
    expect(await depth()).toMatchObject({ waiting: 8, running: 0 });

    const resumedAt = Date.now();
    await resume();
    await until(() => expect(begun.toSorted()).toEqual([running, ...waiting].toSorted()));
    expect(Date.now() - resumedAt).toBeLessThan(2_500); // by the hint, and not by the look every 3 s
  });

  it('stays so for workers that start later', async () => {
    const { world, store, begun, worker } = await setting();
    const { pause, resume } = operator(world, store);
    await pause();
    const job = await enqueue(store);
    await worker();
    await rest(500);
    expect(begun).toEqual([]);
    await resume();
    await until(() => expect(begun).toEqual([job]));
  });

  it('is noticed within seconds though nobody tells of it, and so is its end', async () => {
    const { world, store, begun, worker } = await setting();
    const { pause, resume } = operator(world, store, false);
    await worker();
    await pause();
    await rest(3_500);
    const job = await enqueue(store);
    await rest(500);
    expect(begun).toEqual([]);
    await resume();
    await until(() => expect(begun).toEqual([job]));
  });

  it('is paused by one event, whose reason says why, however often it is asked for', async () => {
    const { world, store } = await setting();
    const { pause } = operator(world, store);
    await Promise.all([pause(), pause(), pause()]);
    const events = await eventsInLog(store);
    expect(events.map(({ type }) => type)).toEqual(['QueuePaused']);
    expect(JSON.parse(events[0]?.meta ?? '')).toMatchObject({ actor: 'acc-op', reason: 'a test' });
  });
});

describe('how full a queue is', () => {
  it('is told over all partitions and priorities, with the age of the oldest, before anybody has worked', async () => {
    const { store, depth } = await setting();
    expect(await depth()).toEqual({ waiting: 0, parked: 0, running: 0 });
    const before = Date.now();
    await enqueue(store, { partition: 1, priority: 'low' });
    await rest(20);
    await enqueue(store, { partition: 0, priority: 'high' });
    const found = await depth();
    expect(found).toMatchObject({ waiting: 2, parked: 0, running: 0 });
    expect(found?.oldest).toBeGreaterThanOrEqual(before);
    expect(found?.oldest).toBeLessThan(before + 20);
  });

  it('tells what workers have from what waits', async () => {
    const { store, begun, end, worker, depth } = await setting(1);
    await worker();
    for (let n = 0; n < 4; n++) await enqueue(store, { payload: { long: true } });
    await until(() => expect(begun).toHaveLength(4));
    expect(await depth()).toMatchObject({ waiting: 0, running: 4 });
    for (const id of begun) end(id);
    await until(async () => expect(await depth()).toEqual({ waiting: 0, parked: 0, running: 0 }));
  });
});
