import { expect, it } from 'vitest';
import { cancelJob, discardJob, retryJob } from '../../src/commands/jobs/requests.ts';
import { openRun, recordCompletion, recordFailure, recordStart } from '../../src/commands/jobs/runs.ts';
import type { Lease } from '../../src/consumers/leases.ts';
import { type JobToRun, workStreams } from '../../src/consumers/take.ts';
import { promote } from '../../src/consumers/timers.ts';
import { OutcomeUnknownError } from '../../src/eventstore/types.ts';
import { ownRedis } from '../support/own-redis.ts';
import { commandsOn, openWorld } from './support.ts';

/** Interleavings of what orders jobs, played step by step as lanes, timers and commands do them. */

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
const failure = { error: { name: 'Error', message: 'no' }, final: false, worker: 'w', ignoredAbort: false };

async function setting(redisUrl?: string) {
  const { world, store } = await openWorld({ partitions: 1, ...(redisUrl ? { redisUrl } : {}) });
  const { deps, context, enqueue } = commandsOn(store, world.prefix);
  const [keys] = store.keys;
  if (!keys) throw new Error('no partition');
  const { redis } = store.writer;
  const own = (token: number) => redis.hset(keys.lease(lease.group), { owner: 'me#1', token });
  await own(lease.token);
  const streams = workStreams(redis, keys, 'default', lease);
  await streams.takePending(10, new Map());
  const taken = async (how: 'new' | 'pending' = 'new'): Promise<readonly JobToRun[]> => {
    const found = await (how === 'new' ? streams.takeNew(4, false) : streams.takePending(10, new Map()));
    if (found === 'lease_lost') throw new Error(found);
    return found.jobs;
  };
  return {
    ...{ store, redis, keys, own, deps, context: context(), taken },
    enqueue: (more = {}) => enqueue({ orderingKey: 'a', ...more }),
    idsOf: (jobs: readonly JobToRun[]) => jobs.map(({ jobId }) => jobId),
    async start(job: JobToRun) {
      const opened = await openRun(deps, job);
      if (opened.kind !== 'recorded') throw new Error(opened.kind);
      const started = await recordStart(deps, opened.run, 'w');
      if (started.kind !== 'recorded') throw new Error(started.kind);
      return started.run;
    },
    async holder() {
      const [held] = Object.values(await redis.hgetall(keys.blocked('default')));
      return held?.split(' ')[0];
    },
  };
}

function only<T>(list: readonly T[]): T {
  const [first] = list;
  if (first === undefined || list.length !== 1) throw new Error(`there are ${list.length}`);
  return first;
}

it('A take whose reply was lost is found among what is pending: the holder alone, and nothing behind it is lost', async () => {
  const { deps, enqueue, taken, idsOf, start } = await setting();
  const ids = [await enqueue(), await enqueue(), await enqueue()];
  await taken(); // nobody gets to see this
  for (const id of ids) {
    expect(await taken()).toEqual(id === ids[0] ? [] : expect.anything());
    const job = only(await taken('pending'));
    expect(idsOf([job])).toEqual([id]);
    await recordCompletion(deps, await start(job), {});
  }
  expect(await taken()).toEqual([]);
});

it('A worker whose lease went to another frees nothing', async () => {
  const { deps, enqueue, taken, start, own, holder } = await setting();
  const [first, second] = [await enqueue(), await enqueue()];
  const run = await start(only(await taken()));
  await own(8);
  expect(await recordCompletion(deps, run, {})).toEqual({ kind: 'lease_lost' });
  expect(await holder()).toBe(first);
  await own(7);
  await recordCompletion(deps, run, {});
  expect(await holder()).toBe(second);
});

it('The work entry that a cancellation left behind does not free what the job, retried by hand, holds by another', async () => {
  const { deps, context, enqueue, taken, start, holder, idsOf } = await setting();
  const [first, second] = [await enqueue(), await enqueue()];
  const stale = only(await taken());
  await cancelJob(deps, context, { jobId: first });
  expect(await holder()).toBe(second);
  const next = only(await taken());
  await recordCompletion(deps, await start(next), {});
  await retryJob(deps, context, { jobId: first });
  const third = await enqueue();
  const again = only(await taken());
  expect(idsOf([again])).toEqual([first]);
  const run = await start(again);
  // Late, as after a pause of its worker.
  expect(await openRun(deps, stale)).toEqual({ kind: 'finished' });
  expect(await holder()).toBe(first);
  expect(await taken()).toEqual([]);
  await recordCompletion(deps, run, {});
  expect(idsOf(await taken())).toEqual([third]);
});

it('A job retried by hand before its cancelled work entry came up runs once, and holds its lane until its end', async () => {
  const { deps, context, enqueue, taken, start, holder, idsOf } = await setting();
  const [first, second] = [await enqueue(), await enqueue()];
  await cancelJob(deps, context, { jobId: first });
  await retryJob(deps, context, { jobId: first });
  const [stale, again, ...more] = await taken();
  expect(more).toEqual([]);
  if (!stale || !again) throw new Error('both entries should be there');
  expect(idsOf([stale, again])).toEqual([first, first]);
  const run = await start(again);
  expect(await openRun(deps, stale)).toEqual({ kind: 'finished' });
  expect(await holder()).toBe(first);
  await recordCompletion(deps, run, {});
  expect(idsOf(await taken())).toEqual([second]);
});

it('A dead letter holds its key, also when its work entry comes up once more', async () => {
  const { deps, context, enqueue, taken, start, holder, idsOf } = await setting();
  const first = await enqueue({ maxAttempts: 1 });
  const second = await enqueue();
  const job = only(await taken());
  await recordFailure(deps, await start(job), { ...failure, retryAt: new Date() });
  expect(await openRun(deps, job)).toEqual({ kind: 'finished' });
  expect(await holder()).toBe(first);
  expect(await taken()).toEqual([]);
  await retryJob(deps, context, { jobId: first });
  const again = only(await taken());
  expect(idsOf([again])).toEqual([first]);
  await recordCompletion(deps, await start(again), {});
  expect(idsOf(await taken())).toEqual([second]);
});

it('A job that is to be tried again holds its key, also when the work entry of the last attempt comes up once more', async () => {
  const { deps, enqueue, taken, start, holder } = await setting();
  const [first] = [await enqueue(), await enqueue()];
  const job = only(await taken());
  await recordFailure(deps, await start(job), { ...failure, retryAt: new Date(Date.now() + 60_000) });
  expect(await openRun(deps, job)).toEqual({ kind: 'finished' });
  expect(await holder()).toBe(first);
  expect(await taken()).toEqual([]);
});

it('A retry that is due comes before what waits behind it, and before what was enqueued since', async () => {
  const { deps, enqueue, taken, start, idsOf, redis, keys } = await setting();
  const [first, second] = [await enqueue(), await enqueue()];
  const run = await start(only(await taken()));
  await recordFailure(deps, run, { ...failure, retryAt: new Date(Date.now() - 1) });
  const third = await enqueue();
  expect(await taken()).toEqual([]);
  await redis.hset(keys.lease('timers'), { owner: 'me#1', token: 7 });
  expect(await promote(redis, keys, ['default'], { group: 'timers', token: 7 })).not.toBe('lease_lost');
  const order = [];
  for (let turn = 0; turn < 3; turn++) {
    const job = only(await taken());
    order.push(...idsOf([job]));
    await recordCompletion(deps, await start(job), {});
  }
  expect(order).toEqual([first, second, third]);
});

it('While Redis is full nothing is taken or parked, and what ends still frees its lane', async () => {
  const server = await ownRedis();
  const { deps, enqueue, taken, start, holder, idsOf, redis, keys } = await setting(server.url);
  const [first, second, third] = [await enqueue(), await enqueue(), await enqueue()];
  const run = await start(only(await taken()));
  const late = await enqueue();
  await redis.config('SET', 'maxmemory', '1mb');
  await expect(taken()).rejects.toThrow('OOM');
  await recordCompletion(deps, run, {});
  expect([first, await holder()]).toEqual([first, second]);
  expect(await redis.llen(`${keys.parkedLists('default')}:${run.spec.lane}`)).toBe(1);
  await redis.config('SET', 'maxmemory', '0');
  const order = [];
  for (let turn = 0; turn < 3; turn++) {
    const job = only(await taken());
    order.push(...idsOf([job]));
    await recordCompletion(deps, await start(job), {});
  }
  expect(order).toEqual([second, third, late]);
});

it('A cancelled entry that was parked, and comes up after the one of a retry, frees nothing of what the retry holds', async () => {
  const { deps, context, enqueue, taken, start, holder, idsOf } = await setting();
  const [first, second, third] = [await enqueue(), await enqueue(), await enqueue()];
  const running = await start(only(await taken())); // the other two are parked
  await cancelJob(deps, context, { jobId: second });
  await retryJob(deps, context, { jobId: second });
  await recordCompletion(deps, running, {}); // what was parked first comes back, behind the retry's own
  expect([first, await holder()]).toEqual([first, second]);
  const [again, stale, ...more] = await taken();
  if (!again || !stale) throw new Error('both entries should be there');
  expect([idsOf([again, stale]), more]).toEqual([[second, second], []]);
  const run = await start(again);
  expect(await openRun(deps, stale)).toEqual({ kind: 'finished' });
  expect(await holder()).toBe(second);
  expect(await taken()).toEqual([]);
  await recordCompletion(deps, run, {});
  expect(idsOf(await taken())).toEqual([third]);
});

it('A dead letter that is discarded twice, and retried in between, keeps what it holds by then', async () => {
  const { store, deps, context, enqueue, taken, start, holder } = await setting();
  const first = await enqueue({ maxAttempts: 1 });
  const run = await start(only(await taken()));
  await recordFailure(deps, run, { ...failure, retryAt: new Date() });
  await discardJob(deps, context, { jobId: first });
  const between = async () => {
    await retryJob(deps, context, { jobId: first });
    await start(only(await taken()));
    await enqueue();
  };
  const late = {
    ...deps,
    store: {
      ...store,
      commit: async (request: Parameters<typeof store.commit>[0]) => {
        await between();
        return store.commit(request);
      },
    },
  };
  await discardJob(late, context, { jobId: first });
  expect(await holder()).toBe(first);
  expect(await taken()).toEqual([]);
});

it('A work entry of which it is not known whether it went is asked for again', async () => {
  const { store, deps, context, enqueue, taken, holder, redis, keys } = await setting();
  const first = await enqueue();
  const job = only(await taken());
  await cancelJob(deps, context, { jobId: first });
  const lost = async () => {
    throw new OutcomeUnknownError('the reply was lost');
  };
  await expect(openRun({ ...deps, store: { ...store, commit: lost } }, job)).rejects.toThrow(
    OutcomeUnknownError,
  );
  expect(await openRun(deps, job)).toEqual({ kind: 'finished' });
  expect(await holder()).toBeUndefined();
  expect(await redis.xlen(keys.work('default', 'normal'))).toBe(0);
});
