import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Type } from 'typebox';
import { describe, expect, it, onTestFinished } from 'vitest';
import { cancelJob } from '../../src/commands/jobs/requests.ts';
import { type Concurrency, createConcurrency } from '../../src/consumers/concurrency.ts';
import { defineJob, type JobContext } from '../../src/consumers/define-job.ts';
import { openHints } from '../../src/consumers/hints.ts';
import { startWorkers, type WorkerDeps } from '../../src/consumers/workers.ts';
import { type JobId, streamId } from '../../src/domain/ids.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { connectionsTo, randomText } from '../support/connections.ts';
import type { World } from '../support/world.ts';
import { PARTITIONS, startWorker } from './processes.ts';
import { commandsOn, jobDeps, jobState, openWorld, quiet, roleDeps, until } from './support.ts';

/** Counts what runs at once, over all workers of the test. */
function counter(run: (context: JobContext<unknown>) => Promise<unknown> = () => sleep(20)) {
  const count = { now: 0, most: 0, begun: [] as number[] };
  return {
    count,
    run: async (context: JobContext<unknown>) => {
      count.most = Math.max(count.most, ++count.now);
      count.begun.push((context.job.payload as { n?: number }).n ?? -1);
      try {
        return (await run(context)) ?? {};
      } finally {
        count.now--;
      }
    },
  };
}

async function start(
  world: World,
  store: OpenEventStore,
  run: (context: JobContext<unknown>) => Promise<unknown>,
  more: Partial<WorkerDeps> = {},
) {
  const workers = await startWorkers({
    ...roleDeps(world, store),
    ...jobDeps(store),
    jobs: (['default', 'webhooks'] as const).map((queue) =>
      defineJob({
        ...{ type: queue === 'default' ? 'test' : queue, enqueuedBy: 'accounts', queue, maxAttempts: 3 },
        ...{ timeoutSeconds: 60, retry: { baseMs: 20, capMs: 100 } },
        ...{ payload: Type.Unknown(), result: Type.Unknown(), run },
      }),
    ),
    ...{ concurrency: 16, drainMs: 1_000, random: Math.random },
    ...more,
  });
  let stopped: Promise<void> | undefined;
  const stop = () => (stopped ??= workers.stop());
  onTestFinished(stop);
  await workers.ready();
  return { stop };
}

async function setting(partitions = 2) {
  const { world, store } = await openWorld({ partitions });
  const { deps, context, enqueue } = commandsOn(store, world.prefix);
  return {
    ...{ world, store, deps, context: context() },
    enqueue: (n: number, concurrencyLimit: number, more = {}) =>
      enqueue({ payload: { n }, concurrencyKey: 'k', concurrencyLimit, ...more }),
  };
}

const phases = (store: OpenEventStore, ids: readonly JobId[]) =>
  Promise.all(ids.map(async (id) => (await jobState(store, id)).phase));

const succeed = (store: OpenEventStore, ids: readonly JobId[], timeoutMs?: number) =>
  until(async () => expect(new Set(await phases(store, ids))).toEqual(new Set(['succeeded'])), timeoutMs);

async function slotKeys(world: World, store: OpenEventStore): Promise<string[]> {
  return store.reader.redis.keys(`${world.prefix}:*slots:*`);
}

describe('Jobs with one concurrency key', () => {
  it('never run more at once than their limit, over workers, partitions and queues; none sleeps when there is room', async () => {
    const { world, store, enqueue } = await setting(4);
    const { count, run } = counter();
    await start(world, store, run);
    await start(world, store, run);
    const begun = performance.now();
    const ids = await Promise.all(
      Array.from({ length: 40 }, (_, n) =>
        enqueue(n, 3, n % 2 === 0 ? {} : { type: 'webhooks', queue: 'webhooks' }),
      ),
    );
    await succeed(store, ids);
    expect(count.most).toBe(3);
    // Fourteen rounds of 20 ms: whoever waited was woken, and none slept until its next look after 5 s.
    expect(performance.now() - begun).toBeLessThan(4_500);
    expect(await slotKeys(world, store)).toEqual([]);
  });

  it('begin in the order in which they came to wait', async () => {
    const { world, store, enqueue } = await setting(1);
    const end = Promise.withResolvers<void>();
    const { count, run } = counter(({ job }) =>
      (job.payload as { n: number }).n === 0 ? end.promise : sleep(1),
    );
    await start(world, store, run);
    const ids = [await enqueue(0, 1)];
    await until(() => expect(count.begun).toEqual([0]));
    for (let n = 1; n <= 5; n++) {
      ids.push(await enqueue(n, 1));
      await until(async () => expect(await store.reader.redis.zcard(await waitingKey(world, store))).toBe(n));
    }
    end.resolve();
    await succeed(store, ids);
    expect(count.begun).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it('give their slot back when they fail, and take one again for the next attempt', async () => {
    const { world, store, enqueue } = await setting(2);
    const { count, run } = counter(async ({ job }) => {
      await sleep(5);
      if (job.attempt === 1) throw new Error('once more');
    });
    await start(world, store, run);
    const ids = await Promise.all(Array.from({ length: 6 }, (_, n) => enqueue(n, 1)));
    await succeed(store, ids);
    expect([count.most, count.begun.length]).toEqual([1, 12]);
    expect(await slotKeys(world, store)).toEqual([]);
  });

  it('are passed over when they are cancelled while they wait', async () => {
    const { world, store, enqueue, deps, context } = await setting(1);
    const end = Promise.withResolvers<void>();
    const { count, run } = counter(({ job }) =>
      (job.payload as { n: number }).n === 0 ? end.promise : Promise.resolve(),
    );
    await start(world, store, run);
    const first = await enqueue(0, 1);
    await until(() => expect(count.begun).toEqual([0]));
    const [cancelled, last] = [await enqueue(1, 1), await enqueue(2, 1)];
    await until(async () => expect(await store.reader.redis.zcard(await waitingKey(world, store))).toBe(2));
    expect((await cancelJob(deps, context, { jobId: cancelled })).kind).toBe('done');
    end.resolve();
    await succeed(store, [first, last], 3_000);
    expect(await phases(store, [cancelled])).toEqual(['cancelled']);
    expect(count.begun).toEqual([0, 2]);
  });

  it('keep their ordering key while they wait for a slot: what is behind them waits, too', async () => {
    const { world, store, enqueue, deps } = await setting(1);
    const end = Promise.withResolvers<void>();
    const { count, run } = counter(({ job }) =>
      (job.payload as { n: number }).n === 0 ? end.promise : Promise.resolve(),
    );
    await start(world, store, run);
    const first = await enqueue(0, 1);
    await until(() => expect(count.begun).toEqual([0]));
    const waiting = await enqueue(1, 1, { orderingKey: 'a' });
    const behind = await enqueue(2, 1, { orderingKey: 'a', concurrencyKey: 'another' });
    const free = await enqueue(3, 1, { orderingKey: 'b', concurrencyKey: 'another' });
    await succeed(store, [free]);
    expect(await phases(store, [waiting, behind])).toEqual(['queued', 'queued']);
    end.resolve();
    await succeed(store, [first, waiting, behind]);
    expect(count.begun).toEqual([0, 3, 1, 2]);
    expect(deps.store.fencedBecause()).toBeUndefined();
  });

  it('whose worker was killed get the slot back that it had, and who waits gets it after them', async () => {
    const { world, store, enqueue } = await setting(PARTITIONS);
    const said = () => store.reader.redis.lrange(`${world.prefix}:runs`, 0, -1);
    const one = await startWorker(world, 'one', {}, [], { slotMs: 3_000 });
    const holder = await enqueue(0, 1, { payload: { ms: 60_000, on: 'one' } });
    await until(async () => expect(await said()).toEqual([`begin ${holder} 1 one`]));
    const waiting = await enqueue(1, 1, { payload: { ms: 10 } });
    await until(async () => expect(await store.reader.redis.zcard(await waitingKey(world, store))).toBe(1));
    const gone = once(one, 'exit');
    one.kill('SIGKILL');
    await gone;
    // Nobody runs the job for longer than its slot lasts: the one that waits need not wait for it.
    await startWorker(world, 'two', {}, [], { slotMs: 3_000 });
    await succeed(store, [waiting, holder], 40_000);
    const runs = (await said()).map((line) => line.split(' '));
    expect(runs.filter(([word]) => word === 'begin')).toHaveLength(3);
    await until(async () => expect(await slotKeys(world, store)).toEqual([]));
  });
});

async function waitingKey(world: World, store: OpenEventStore): Promise<string> {
  const [key] = await store.reader.redis.keys(`${world.prefix}:*slots:*:waiting`);
  return key ?? 'nothing';
}

describe('A queue with a limit', () => {
  it('never runs more at once over all workers, and the others run beside it', async () => {
    const { world, store } = await setting(4);
    const { enqueue } = commandsOn(store, world.prefix);
    const limited = counter();
    const other = counter();
    const run = (context: JobContext<unknown>) =>
      (context.job.type === 'webhooks' ? limited : other).run(context);
    const queueLimits = new Map([['webhooks', 2]]);
    await start(world, store, run, { queueLimits });
    await start(world, store, run, { queueLimits });
    const ids = await Promise.all(
      Array.from({ length: 60 }, (_, n) =>
        enqueue({ payload: { n }, ...(n % 2 === 0 ? {} : { type: 'webhooks', queue: 'webhooks' as const }) }),
      ),
    );
    await succeed(store, ids);
    expect(limited.count.most).toBe(2);
    expect(other.count.most).toBeGreaterThan(3);
    await until(async () => expect(await slotKeys(world, store)).toEqual([]));
  });
});

describe('Slots', () => {
  const limit = { name: 'some', most: 1 };
  const id = () => streamId('job', 0, randomText(20));

  async function two(slotMs = 60_000): Promise<{ one: Concurrency; other: Concurrency }> {
    const { world, store } = await openWorld({ partitions: 1 });
    const open = async () => {
      const hints = await openHints(
        { publisher: store.writer.redis, subscriber: connectionsTo(world.redisUrl).subscriber('hints') },
        world.prefix,
        ['slots'],
      );
      const slots = createConcurrency({ store, hints, logger: quiet, slotMs });
      onTestFinished(() => {
        slots.close();
        hints.close();
      });
      return slots;
    };
    return { one: await open(), other: await open() };
  }

  it('are the job’s, whoever runs it: its next owner has it at once, and its last one can’t give it back any more', async () => {
    const { one, other } = await two();
    const job = id();
    const old = await one.take(limit, job);
    const taken = await other.take(limit, job);
    expect(taken).toHaveProperty('release');
    if ('release' in old) await old.release();
    expect(await one.take(limit, id())).toEqual({ ahead: 0 });
    if ('release' in taken) await taken.release();
    expect(await one.take(limit, id())).toHaveProperty('release');
  });

  it('are waited for in a process, too, and not longer than the signal allows', async () => {
    const { one, other } = await two();
    const taken = await one.take(limit, id());
    const stop = new AbortController();
    const [given, gaveUp] = [
      other.wait(limit, id(), new AbortController().signal),
      one.wait(limit, id(), stop.signal),
    ];
    await sleep(100);
    stop.abort();
    expect(await gaveUp).toBeUndefined();
    if ('release' in taken) await taken.release();
    expect(await given).toHaveProperty('release');
    expect(await one.take(limit, id())).toEqual({ ahead: 0 });
  });

  it('that nobody renews run out, and those that are renewed do not', async () => {
    const { one, other } = await two(1_000);
    const kept = await one.take({ name: 'kept', most: 1 }, id());
    const left = await one.take(limit, id());
    if ('release' in left) left.forget();
    expect(await other.take(limit, id())).toEqual({ ahead: 0 });
    await until(async () => expect(await other.take(limit, id())).toHaveProperty('release'));
    await sleep(1_300);
    expect(await other.take({ name: 'kept', most: 1 }, id())).toEqual({ ahead: 0 });
    if ('release' in kept) await kept.release();
  });
});
