import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { JobOutcome } from '../../src/consumers/conclude.ts';
import { startLane } from '../../src/consumers/lane.ts';
import type { Lease } from '../../src/consumers/leases.ts';
import { createSlots } from '../../src/consumers/slots.ts';
import { PRIORITIES, workStreams } from '../../src/consumers/take.ts';
import { promote } from '../../src/consumers/timers.ts';
import { openWaker, WAKE_BLOCK_MS } from '../../src/consumers/waker.ts';
import { connectBlocking } from '../../src/eventstore/connections.ts';
import type { PartitionKeys } from '../../src/eventstore/partitions.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { randomText } from '../support/connections.ts';
import { enqueue, openWorld, quiet, until } from './support.ts';

const lease: Lease = {
  group: 'lane:default',
  partition: 0,
  token: 7,
  runId: 'r',
  lost: new AbortController().signal,
  held: () => true,
  secure: () => true,
  release: async () => {},
};

/** Of the event that set a timer, as its members begin. */
const SEQ = '00000000000001';

async function openLane(token = lease.token) {
  const { world, store } = await openWorld({ partitions: 1 });
  const keys = partitionKeys(store);
  const { redis } = store.writer;
  await redis.hset(keys.lease(lease.group), { owner: 'me#1', token });
  return { world, store, keys, redis, streams: workStreams(redis, keys, 'default', lease) };
}

function partitionKeys(store: OpenEventStore): PartitionKeys {
  const [keys] = store.keys;
  if (!keys) throw new Error('no partition');
  return keys;
}

const jobsOf = (taken: Awaited<ReturnType<ReturnType<typeof workStreams>['takeNew']>>) =>
  taken === 'lease_lost' ? taken : taken.jobs.map(({ jobId }) => jobId);

/** What a lane is told where nothing is wrong. */
const undisturbed = () => ({
  unrecorded: createSlots(10),
  refusesStarts: () => false,
  paused: () => false,
  untilResumed: () => Promise.resolve(),
  knows: () => true,
  leave: () => {},
  drainMs: 1_000,
  onReconnect: () => () => {},
  logger: quiet,
});

describe('Work is taken', () => {
  it('by the holder of the lease only: a stale token takes nothing and promotes nothing', async () => {
    const { store, keys, redis, streams } = await openLane(8);
    await enqueue(store);
    await redis.zadd(keys.timers, 1, `${SEQ} job-x`);
    expect(await streams.takePending(10, new Map())).toBe('lease_lost');
    expect(await streams.takeNew(10, false)).toBe('lease_lost');
    expect(await promote(redis, keys, ['default'], lease)).toBe('lease_lost');
    expect(await redis.zcard(keys.timers)).toBe(1);
  });

  it('from the pending list first, all of it, in order, by whoever comes next', async () => {
    const { store, streams } = await openLane();
    await streams.takePending(10, new Map());
    const jobs = [];
    for (let i = 0; i < 5; i++) jobs.push(await enqueue(store));
    expect(jobsOf(await streams.takeNew(10, false))).toEqual(jobs);
    expect(jobsOf(await streams.takeNew(10, false))).toEqual([]);

    const again = [];
    let after: ReadonlyMap<string, string> = new Map();
    for (;;) {
      const taken = await streams.takePending(2, after);
      if (taken === 'lease_lost') throw new Error(taken);
      again.push(...taken.jobs.map(({ jobId }) => jobId));
      if ([...taken.ids.values()].every((id) => id === '')) break;
      after = taken.ids;
    }
    expect(again).toEqual(jobs);
  });

  it('but not where a commit removed it while it was pending: such an entry is acked and never run', async () => {
    const { store, keys, redis, streams } = await openLane();
    await streams.takePending(10, new Map());
    await enqueue(store);
    const kept = await enqueue(store);
    const taken = await streams.takeNew(10, false);
    if (taken === 'lease_lost') throw new Error(taken);
    await redis.xdel(keys.work('default', 'normal'), taken.jobs[0]?.entryId ?? '');
    expect(jobsOf(await streams.takePending(10, new Map()))).toEqual([kept]);
    expect((await redis.xpending(keys.work('default', 'normal'), 'lane'))[0]).toBe(1);
  });

  it('highest priority first, or lowest first when it is their turn', async () => {
    const { store, streams } = await openLane();
    await streams.takePending(10, new Map());
    const low = await enqueue(store, { priority: 'low' });
    const normal = await enqueue(store, { priority: 'normal' });
    const high = await enqueue(store, { priority: 'high' });
    expect(jobsOf(await streams.takeNew(1, false))).toEqual([high]);
    expect(jobsOf(await streams.takeNew(1, true))).toEqual([low]);
    expect(jobsOf(await streams.takeNew(5, false))).toEqual([normal]);
  });
});

describe('Timers', () => {
  it('do not hide behind many of a queue that only newer code knows', async () => {
    const { keys, redis, streams } = await openLane();
    await streams.takePending(10, new Map());
    const [seconds] = await redis.time();
    const now = Number(seconds) * 1000;
    const known = `job-00${randomText(20)}`;
    for (let i = 0; i < 120; i++) {
      await redis.zadd(keys.timers, now - 1_000 + i, `${SEQ} job-${i}`);
      await redis.hset(keys.timerWork, `job-${i}`, `${SEQ} tomorrow high test ${now} - `);
    }
    await redis.zadd(keys.timers, now - 5, `${SEQ} ${known}`);
    await redis.hset(keys.timerWork, known, `${SEQ} default high test ${now} - `);
    expect(await promote(redis, keys, ['default'], lease)).toBe(0);
    expect(await promote(redis, keys, ['default'], lease)).toBeGreaterThan(50_000);
    expect(await streams.takeNew(5, false)).toMatchObject({ jobs: [{ jobId: known }] });
    expect(await redis.zcard(keys.timers)).toBe(120);
  });

  it('become work when they are due by the clock of Redis, and say when the next one is', async () => {
    const { store, keys, redis, streams } = await openLane();
    await streams.takePending(10, new Map());
    expect(await promote(redis, keys, ['default'], lease)).toBe(-1);
    const [seconds] = await redis.time();
    const now = Number(seconds) * 1000;
    const due = `job-00${randomText(20)}`;
    const later = `job-00${randomText(20)}`;
    const unknown = `job-00${randomText(20)}`;
    for (const [at, job] of [
      [now - 5, due],
      [now + 60_000, later],
      [now - 9, unknown],
    ] as const) {
      await redis.zadd(keys.timers, at, `${SEQ} ${job}`);
    }
    await redis.hset(keys.timerWork, {
      [due]: `${SEQ} default high test ${now - 5} - 00-abc`,
      [later]: `${SEQ} default high test ${now + 60_000} - `,
      [unknown]: `${SEQ} tomorrow high test ${now - 9} - `,
    });
    const ms = await promote(redis, keys, ['default'], lease);
    expect(ms).toBeGreaterThan(50_000);
    expect(ms).toBeLessThanOrEqual(60_000);
    const taken = await streams.takeNew(5, false);
    expect(taken).toMatchObject({
      jobs: [{ jobId: due, type: 'test', dueAt: now - 5, priority: 'high', traceparent: '00-abc' }],
    });
    expect((await redis.zrange(keys.timers, 0, '-1')).toSorted()).toEqual(
      [later, unknown].map((id) => `${SEQ} ${id}`).toSorted(),
    );
    expect(store.fencedBecause()).toBeUndefined();
  });
});

describe('A take that brings all there is', () => {
  it('says after which entries more is to be waited for; one that may leave some says nothing', async () => {
    const { store, keys, streams } = await openLane();
    await streams.takePending(10, new Map());
    await enqueue(store);
    await enqueue(store);
    await enqueue(store, { priority: 'high' });
    const idsOf = async (count: number) => {
      const taken = await streams.takeNew(count, false);
      return taken === 'lease_lost' ? taken : [...taken.ids];
    };
    const lastOf = async (priority: string) =>
      (await store.reader.redis.xrevrange(keys.work('default', priority), '+', '-', 'COUNT', 1))[0]?.[0];
    expect(await idsOf(1)).toEqual([]);
    // Of the lowest priority nothing is known yet.
    expect(await idsOf(3)).toEqual([]);
    const all = async () => [
      [keys.work('default', 'high'), await lastOf('high')],
      [keys.work('default', 'normal'), await lastOf('normal')],
      [keys.work('default', 'low'), '0-0'],
    ];
    expect(await idsOf(3)).toEqual(await all());
    await enqueue(store);
    expect(await idsOf(3)).toEqual(await all());
  });

  it('is followed by a wait and not by another take, while its jobs run', async () => {
    const { store, streams } = await openLane();
    const calls: string[] = [];
    const woken = Promise.withResolvers<void>();
    const end = Promise.withResolvers<JobOutcome>();
    const lane = startLane({
      lease,
      streams: {
        ...streams,
        async takeNew(...args) {
          const taken = await streams.takeNew(...args);
          calls.push(taken === 'lease_lost' ? taken : `took ${taken.jobs.length}`);
          return taken;
        },
      },
      waker: {
        wait(ids) {
          calls.push(`waits for ${ids.size}`);
          return calls.length < 4 ? woken.promise : new Promise(() => {});
        },
        close: () => {},
      },
      slots: createSlots(2),
      ...undisturbed(),
      run: () => end.promise,
    });
    onTestFinished(async () => {
      end.resolve('succeeded');
      lane.stop();
      await lane.ended;
    });
    await until(() => expect(calls).toEqual(['took 0', 'waits for 3']));
    await enqueue(store);
    woken.resolve();
    await until(() => expect(calls).toEqual(['took 0', 'waits for 3', 'took 1', 'waits for 3']));
  });
});

describe('A lane', () => {
  it('begins at once what came while it had no slot, where it had found nothing, and though only another lane was woken by it', async () => {
    const { world, store, keys, redis, streams } = await openLane();
    const blocking = connectBlocking({ url: world.redisUrl, name: 'blocking', blockMs: WAKE_BLOCK_MS });
    await blocking.whenReady(5_000);
    const other = keys.work('exports', 'normal');
    const waker = openWaker(blocking, [
      ...PRIORITIES.map((priority) => keys.work('default', priority)),
      other,
    ]);
    const gate = Promise.withResolvers<void>();
    let stopped = false;
    let waits = 0;
    let wakes = 0;
    const begun: string[] = [];
    const lane = startLane({
      lease,
      streams,
      waker: {
        ...waker,
        wait(ids) {
          waits++;
          return waker.wait(ids);
        },
      },
      slots: createSlots(1),
      ...undisturbed(),
      async run({ jobId, priority, entryId }) {
        begun.push(jobId);
        await gate.promise;
        await redis.xack(keys.work('default', priority), 'lane', entryId);
        await redis.xdel(keys.work('default', priority), entryId);
        return 'succeeded';
      },
    });
    onTestFinished(async () => {
      stopped = true;
      gate.resolve();
      waker.close();
      lane.stop();
      await lane.ended;
    });
    void (async () => {
      for (; !stopped; wakes++) await waker.wait(new Map([[other, '0-0']]));
    })();
    await until(() => expect(waits).toBe(1));
    const jobs = [await enqueue(store), await enqueue(store)];
    await until(async () =>
      expect((await redis.xpending(keys.work('default', 'normal'), 'lane'))[0]).toBe(2),
    );
    const before = wakes;
    jobs.push(await enqueue(store, { priority: 'high' }));
    await until(() => expect(wakes).toBeGreaterThan(before));
    gate.resolve();
    await vi.waitFor(() => expect(begun).toEqual(jobs), { timeout: WAKE_BLOCK_MS / 2, interval: 20 });
  });

  it('takes and begins nothing while the renewal of its lease fails or is late; what runs goes on', async () => {
    const { store, redis, keys } = await openLane();
    let secure = true;
    const own: Lease = { ...lease, secure: () => secure };
    const end = Promise.withResolvers<JobOutcome>();
    const begun: string[] = [];
    let takes = 0;
    const streams = workStreams(redis, keys, 'default', own);
    const lane = startLane({
      lease: own,
      streams: {
        ...streams,
        takeNew(...args) {
          takes++;
          return streams.takeNew(...args);
        },
      },
      waker: { wait: () => new Promise((resolve) => setTimeout(resolve, 10)), close: () => {} },
      slots: createSlots(2),
      ...undisturbed(),
      run(job) {
        begun.push(job.jobId);
        return begun.length === 1 ? end.promise : Promise.resolve('succeeded');
      },
    });
    onTestFinished(async () => {
      lane.stop();
      await lane.ended;
    });
    const first = await enqueue(store);
    await until(() => expect(begun).toEqual([first]));
    secure = false;
    await new Promise((resolve) => setTimeout(resolve, 100)); // a take under way may end
    const before = takes;
    const second = await enqueue(store);
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect([takes, begun]).toEqual([before, [first]]);
    secure = true;
    await until(() => expect(begun).toEqual([first, second]));
    end.resolve('succeeded');
  });

  it('is handed over although its jobs overlap without end, and take longer than it waits for them at first', async () => {
    const { store, keys, redis, streams } = await openLane();
    let running = 0;
    let most = 0;
    const lane = startLane({
      lease,
      streams,
      waker: { wait: () => new Promise((resolve) => setTimeout(resolve, 10)), close: () => {} },
      slots: createSlots(2),
      ...undisturbed(),
      async run({ priority, entryId }) {
        most = Math.max(most, ++running);
        await new Promise((resolve) => setTimeout(resolve, 300));
        running--;
        await redis.xack(keys.work('default', priority), 'lane', entryId);
        return 'succeeded';
      },
      handOverPauseMs: 50,
    });
    const producer = setInterval(() => void enqueue(store), 150);
    onTestFinished(async () => {
      clearInterval(producer);
      lane.stop();
      await lane.ended;
    });
    await until(() => expect(most).toBe(2));
    lane.handOver();
    expect(await lane.ended).toEqual({ kind: 'done' });
    expect(running).toBe(0);
  });
});
