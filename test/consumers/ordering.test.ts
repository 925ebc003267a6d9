import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { cancelJob, discardJob, retryJob } from '../../src/commands/jobs/requests.ts';
import { type JobContext, NoRetryError } from '../../src/consumers/define-job.ts';
import { type JobId, partitionOf } from '../../src/domain/ids.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import type { World } from '../support/world.ts';
import { lanes, PARTITIONS, startWorker } from './processes.ts';
import { type Run, runWorkers, testJob } from './running.ts';
import { commandsOn, jobState, openWorld, until } from './support.ts';

type Payload = { key: string; n: number; [more: string]: unknown };
type Act = (payload: Payload, context: JobContext<unknown>) => Promise<unknown>;

/** What handlers did, in their order, over all workers of the test: `+ key n` and `- key n`. */
function recorder(run: Act = async () => {}) {
  const said: string[] = [];
  return {
    said,
    /** In which order the jobs of a key began. */
    begun: (key: string) =>
      said.filter((line) => line.startsWith(`+ ${key} `)).map((line) => Number(line.split(' ')[2])),
    run: async (context: JobContext<unknown>) => {
      const payload = context.job.payload as Payload;
      said.push(`+ ${payload.key} ${payload.n}`);
      try {
        return (await run(payload, context)) ?? {};
      } finally {
        said.push(`- ${payload.key} ${payload.n}`);
      }
    },
  };
}

async function start(
  world: World,
  store: OpenEventStore,
  run: Run,
  { retryMs = 20 }: { retryMs?: number } = {},
) {
  const job = testJob(run, { retry: { baseMs: retryMs, capMs: 5 * retryMs } });
  const { stop } = await runWorkers(world, store, [job], {
    ...{ concurrency: 8, random: () => 0.5 + Math.random() / 2 },
  });
  return { stop };
}

/** A store, and how a job of a key is enqueued. */
async function setting(partitions = 2) {
  const { world, store } = await openWorld({ partitions });
  const commands = commandsOn(store, world.prefix);
  const enqueue = (key: string, n: number, more = {}, payload = {}, owner?: string) =>
    commands.enqueue({ orderingKey: key, payload: { key, n, ...payload }, ...more }, owner);
  return { world, store, enqueue, deps: commands.deps, context: commands.context() };
}

const phases = (store: OpenEventStore, ids: readonly JobId[]) =>
  Promise.all(ids.map(async (id) => (await jobState(store, id)).phase));

/** Nothing that orders jobs is left behind. */
async function noLaneIsHeld(store: OpenEventStore) {
  for (const keys of store.keys) {
    expect(await store.reader.redis.exists(keys.blocked('default'))).toBe(0);
    expect(await store.reader.redis.keys(`${keys.parkedLists('default')}:*`)).toEqual([]);
    expect(await store.reader.redis.xlen(keys.work('default', 'normal'))).toBe(0);
  }
}

/** Of each key one at a time: what begins ends before the next begins. */
function neverOverlap(said: readonly string[]) {
  const running = new Map<string, string>();
  for (const line of said) {
    const [sign, key = '', n = ''] = line.split(' ');
    if (sign === '+') {
      expect(running.get(key), `${line}, and another of its key runs`).toBeUndefined();
      running.set(key, n);
    } else running.delete(key);
  }
}

describe('Jobs with one ordering key', () => {
  it('run one after another, in their order, on several workers; those of other keys run beside them', async () => {
    const { world, store, enqueue } = await setting(4);
    let most = 0;
    let now = 0;
    const recorded = recorder(async ({ n }) => {
      most = Math.max(most, ++now);
      await sleep((n * 7) % 5);
      now--;
    });
    await start(world, store, recorded.run);
    await start(world, store, recorded.run);
    const keys = ['a', 'b', 'c', 'd', 'e', 'f'];
    const ids: JobId[] = [];
    for (let n = 0; n < 25; n++) {
      ids.push(...(await Promise.all(keys.map((key) => enqueue(key, n)))));
    }
    await until(
      async () => expect(new Set(await phases(store, ids))).toEqual(new Set(['succeeded'])),
      20_000,
    );
    for (const key of keys) expect(recorded.begun(key)).toEqual(Array.from({ length: 25 }, (_, n) => n));
    neverOverlap(recorded.said);
    expect(most).toBeGreaterThan(2);
    await noLaneIsHeld(store);
  });

  it('wait while the first of them is tried again and again, and run in their order then; others do not wait', async () => {
    const { world, store, enqueue } = await setting(1);
    const recorded = recorder(async ({ key, n }, { job }) => {
      if (key === 'a' && n === 0 && job.attempt < 3) throw new Error('not yet');
    });
    await start(world, store, recorded.run);
    const ids = await Promise.all([0, 1, 2, 3].map((n) => enqueue('a', n)));
    const other = await enqueue('b', 9);
    await until(async () =>
      expect(new Set(await phases(store, [...ids, other]))).toEqual(new Set(['succeeded'])),
    );
    expect(recorded.begun('a')).toEqual([0, 0, 0, 1, 2, 3]);
    neverOverlap(recorded.said);
    await noLaneIsHeld(store);
  });

  it('wait behind a dead letter until it is tried again, and run after it, in their order', async () => {
    const { world, store, enqueue, deps, context } = await setting(1);
    let broken = true;
    const recorded = recorder(async ({ n }) => {
      if (n === 0 && broken) throw new NoRetryError('hopeless');
    });
    await start(world, store, recorded.run);
    const first = await enqueue('a', 0);
    const others = [await enqueue('a', 1), await enqueue('a', 2)];
    const free = await enqueue('b', 5);
    await until(async () => expect(await phases(store, [first, free])).toEqual(['failed', 'succeeded']));
    await until(async () =>
      expect(await store.reader.redis.keys(`${store.keys[0]?.parkedLists('default')}:*`)).toHaveLength(1),
    );
    const late = await enqueue('a', 3);
    expect(recorded.begun('a')).toEqual([0]);
    broken = false;
    expect((await retryJob(deps, context, { jobId: first })).kind).toBe('done');
    await until(async () =>
      expect(new Set(await phases(store, [first, ...others, late]))).toEqual(new Set(['succeeded'])),
    );
    expect(recorded.begun('a')).toEqual([0, 0, 1, 2, 3]);
    neverOverlap(recorded.said);
    await noLaneIsHeld(store);
  });

  it('go on in their order when the dead letter before them is given up', async () => {
    const { world, store, enqueue, deps, context } = await setting(1);
    const recorded = recorder(async ({ n }) => {
      if (n === 0) throw new NoRetryError('hopeless');
    });
    await start(world, store, recorded.run);
    const first = await enqueue('a', 0);
    const others = [await enqueue('a', 1), await enqueue('a', 2)];
    await until(async () => expect(await phases(store, [first])).toEqual(['failed']));
    expect((await discardJob(deps, context, { jobId: first })).kind).toBe('done');
    expect((await discardJob(deps, context, { jobId: first })).kind).toBe('done');
    await until(async () => expect(await phases(store, others)).toEqual(['succeeded', 'succeeded']));
    expect(recorded.begun('a')).toEqual([0, 1, 2]);
    await noLaneIsHeld(store);
  });

  it('keep their order when their worker hands over to another in the middle, with the first in retry', async () => {
    const { world, store, enqueue } = await setting(2);
    const recorded = recorder(async ({ n }, { job }) => {
      if (n === 0 && job.attempt === 1) throw new Error('not yet');
      await sleep(20);
    });
    const one = await start(world, store, recorded.run);
    const ids: JobId[] = [];
    for (let n = 0; n < 10; n++) ids.push(await enqueue('a', n));
    await until(() => expect(recorded.said.length).toBeGreaterThan(1));
    await start(world, store, recorded.run);
    await one.stop();
    await until(async () => expect(new Set(await phases(store, ids))).toEqual(new Set(['succeeded'])));
    expect([...new Set(recorded.begun('a'))]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    neverOverlap(recorded.said);
    await noLaneIsHeld(store);
  });

  it('of two owners do not wait for each other, whatever the key is called', async () => {
    const { world, store, enqueue } = await setting(1);
    const end = Promise.withResolvers<void>();
    const recorded = recorder(({ n }) => (n === 0 ? end.promise : Promise.resolve()));
    await start(world, store, recorded.run);
    const [adas, bobs] = await Promise.all([
      enqueue('same', 0, {}, {}, 'acc-00ada'),
      enqueue('same', 1, {}, {}, 'acc-00bob'),
    ]);
    await until(async () => expect(await phases(store, [bobs])).toEqual(['succeeded']));
    expect(await phases(store, [adas])).toEqual(['running']);
    end.resolve();
    await until(async () => expect(await phases(store, [adas])).toEqual(['succeeded']));
  });

  it('run in the order of their times, and of their positions where these are the same', async () => {
    const { world, store, enqueue } = await setting(1);
    const recorded = recorder();
    const soon = Date.now() + 600;
    const at = (ms: number) => ({ runAt: new Date(soon + ms).toISOString() });
    const ids = [await enqueue('a', 5, at(50))];
    for (let n = 1; n <= 4; n++) ids.push(await enqueue('a', n, at(0)));
    ids.push(await enqueue('a', 0));
    await start(world, store, recorded.run);
    await until(async () => expect(new Set(await phases(store, ids))).toEqual(new Set(['succeeded'])));
    expect(recorded.begun('a')).toEqual([0, 1, 2, 3, 4, 5]);
  });

  it('do not overtake one that was due before them, though nobody had promoted it yet', async () => {
    const { world, store, enqueue } = await setting(1);
    const recorded = recorder();
    const due = Date.now() + 50;
    const ids = [await enqueue('a', 0, { runAt: new Date(due).toISOString() })];
    await until(() => expect(Date.now()).toBeGreaterThan(due + 5));
    ids.push(await enqueue('a', 1), await enqueue('a', 2));
    await start(world, store, recorded.run);
    await until(async () => expect(new Set(await phases(store, ids))).toEqual(new Set(['succeeded'])));
    expect(recorded.begun('a')).toEqual([0, 1, 2]);
    await noLaneIsHeld(store);
  });
});

describe('Cancelling, of jobs with one ordering key,', () => {
  /** The first runs until it is told to end, or its retry is far away; two wait behind it. */
  async function blocked(first: Act) {
    const { deps, context, ...rest } = await setting(1);
    const recorded = recorder((payload, given) =>
      payload.n === 0 ? first(payload, given) : Promise.resolve(),
    );
    await start(rest.world, rest.store, recorded.run, { retryMs: 60_000 });
    const ids = [await rest.enqueue('a', 0), await rest.enqueue('a', 1), await rest.enqueue('a', 2)] as const;
    await until(() => expect(recorded.begun('a')).toEqual([0]));
    const cancel = async (jobId: JobId) => {
      expect((await cancelJob(deps, context, { jobId })).kind).toBe('done');
    };
    return { ...rest, recorded, ids, cancel };
  }

  it('one that waits: it is passed over when its turn comes', async () => {
    const end = Promise.withResolvers<void>();
    const { store, recorded, ids, cancel } = await blocked(() => end.promise);
    await cancel(ids[1]);
    end.resolve();
    await until(async () =>
      expect(await phases(store, ids)).toEqual(['succeeded', 'cancelled', 'succeeded']),
    );
    expect(recorded.begun('a')).toEqual([0, 2]);
    await until(() => noLaneIsHeld(store));
  });

  it('the one that runs: the next begins when it has ended', async () => {
    const { store, recorded, ids, cancel } = await blocked(
      (_, { signal }) => new Promise((_resolve, reject) => signal.addEventListener('abort', reject)),
    );
    await cancel(ids[0]);
    await until(async () =>
      expect(await phases(store, ids)).toEqual(['cancelled', 'succeeded', 'succeeded']),
    );
    neverOverlap(recorded.said);
    await until(() => noLaneIsHeld(store));
  });

  it('one that waits to be tried again: the next begins at once', async () => {
    const { store, recorded, ids, cancel } = await blocked(() => {
      throw new Error('later');
    });
    await until(async () => expect(await phases(store, [ids[0]])).toEqual(['retrying']));
    await cancel(ids[0]);
    await until(async () =>
      expect(await phases(store, ids)).toEqual(['cancelled', 'succeeded', 'succeeded']),
    );
    expect(recorded.begun('a')).toEqual([0, 1, 2]);
    await until(() => noLaneIsHeld(store));
  });
});

it('Thousands that wait behind one job leave the list of pending work short, and others of the partition go on', async () => {
  const { world, store, enqueue } = await setting(1);
  const end = Promise.withResolvers<void>();
  const recorded = recorder(({ n }) => (n === 0 ? end.promise : Promise.resolve()));
  await start(world, store, recorded.run);
  const first = await enqueue('a', 0);
  const ids = await Promise.all(Array.from({ length: 2_000 }, (_, n) => enqueue('a', n + 1)));
  const other = await enqueue('b', 1);
  await until(async () => expect(await phases(store, [other])).toEqual(['succeeded']));
  const [keys] = store.keys;
  const { redis } = store.reader;
  await until(async () => expect(await redis.xlen(keys?.work('default', 'normal') ?? '')).toBe(1));
  expect((await redis.xpending(keys?.work('default', 'normal') ?? '', 'lane'))[0]).toBe(1);
  end.resolve();
  await until(
    async () => expect(await phases(store, [first, ...ids.slice(-1)])).toEqual(['succeeded', 'succeeded']),
    25_000,
  );
  const order = recorded.begun('a');
  expect(order).toHaveLength(2_001);
  expect(order).toEqual(order.toSorted((a, b) => a - b));
});

it('Killing the worker in the middle changes no order: what it ran is run again before what waits', async () => {
  const { world, store, enqueue } = await setting(PARTITIONS);
  const said = async () =>
    (await store.reader.redis.lrange(`${world.prefix}:runs`, 0, -1)).map((line) => line.split(' '));
  const one = await startWorker(world, 'one');
  const ids = [await enqueue('a', 0, {}, { ms: 600 })];
  for (let n = 1; n <= 3; n++) ids.push(await enqueue('a', n, {}, { ms: 5 }));
  await until(async () => expect((await said()).length).toBe(1));
  const gone = once(one, 'exit');
  one.kill('SIGKILL');
  await gone;
  // The same instance: its successor ends its leases at once.
  await startWorker(world, 'one');
  expect(await lanes(store)).toEqual({ one: PARTITIONS });
  await until(async () => expect(new Set(await phases(store, ids))).toEqual(new Set(['succeeded'])), 20_000);
  const begun = (await said()).filter(([word]) => word === 'begin').map(([, id]) => ids.indexOf(id as JobId));
  expect(begun).toEqual([0, 0, 1, 2, 3]);
  expect(new Set(ids.map(partitionOf)).size).toBe(1);
});
