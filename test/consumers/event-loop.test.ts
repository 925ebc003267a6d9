import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { laneOf, lanes, PARTITIONS, results, runs, startWorker } from './processes.ts';
import { enqueue, jobState, openWorld, until } from './support.ts';

/** As in production, five times as fast. Members count as dead after nine seconds all the same. */
const FAST = { leaseMs: 3_000, renewEveryMs: 1_000, silentMs: 2_000 };

/** Two workers that both own something, and a partition of the first. */
async function twoWorkers(timing: object, nodeArgs: readonly string[] = []) {
  const { world, store } = await openWorld({ partitions: PARTITIONS });
  const [one, two] = await Promise.all([
    startWorker(world, 'one', timing, nodeArgs),
    startWorker(world, 'two', timing),
  ]);
  await until(async () => expect(Object.keys(await lanes(store)).toSorted()).toEqual(['one', 'two']));
  return { world, store, one, two, partition: await laneOf(store, 'one') };
}

describe('A worker whose event loop hangs', () => {
  it('is ended, and says why; another has its leases at once, and its job', async () => {
    const { store, one, partition } = await twoWorkers({ ...FAST, leaseMs: 60_000 });
    const begun = Date.now();
    const jobId = await enqueue(store, { partition, payload: { ms: 20_000, how: 'hang', on: 'one' } });
    // Not at its exit: what it has said may be under way then.
    await once(one, 'close');
    expect(one.signalCode).toBe('SIGABRT');
    const last = JSON.parse(one.said().trim().split('\n').at(-1) ?? '');
    expect(last).toMatchObject({ level: 'fatal', instanceId: 'one', limitMs: 2_000 });
    expect(last.msg).toContain('event loop hangs');
    // Once it counts as dead, and not after the minute of a lease.
    await until(async () => expect((await jobState(store, jobId)).phase).toBe('succeeded'), 20_000);
    expect(Date.now() - begun).toBeLessThan(30_000);
    expect(await results(store, jobId)).toEqual([{ by: 'two' }]);
    expect(await lanes(store)).toEqual({ two: PARTITIONS });
  });

  it('for less than the limit keeps what it has, though it could not have renewed it', async () => {
    const { world, store, one, partition } = await twoWorkers({ ...FAST, silentMs: 15_000 });
    const token = await store.reader.redis.hget(store.keys[partition]?.lease('lane:default') ?? '', 'token');
    const jobId = await enqueue(store, { partition, payload: { ms: 6_000, how: 'hang' } });
    await until(async () => expect(await results(store, jobId)).toEqual([{ by: 'one' }]), 15_000);
    expect(await runs(world, store, jobId)).toEqual(['begin 1 one', 'end 1 one']);
    expect(await store.reader.redis.hget(store.keys[partition]?.lease('lane:default') ?? '', 'token')).toBe(
      token,
    );
    expect(one.exitCode ?? one.signalCode).toBeNull();
  });

  it('under a debugger loses its leases and lives on, to take them again', async () => {
    const { store, one, partition } = await twoWorkers(FAST, ['--inspect=127.0.0.1:0']);
    const jobId = await enqueue(store, { partition, payload: { ms: 12_000, how: 'hang', on: 'one' } });
    await until(async () => expect(await results(store, jobId)).toEqual([{ by: 'two' }]), 20_000);
    await until(async () => expect((await lanes(store)).one).toBeGreaterThan(0), 20_000);
    expect(one.exitCode ?? one.signalCode).toBeNull();
    expect(await results(store, jobId)).toEqual([{ by: 'two' }]);
  });
});

describe('A worker that is stopped (SIGSTOP) for longer than its leases last', () => {
  it('takes and finishes nothing under them when it wakes up; it lives on, and takes leases again', async () => {
    const { world, store, one, partition } = await twoWorkers(FAST);
    const jobId = await enqueue(store, { partition, payload: { ms: 6_000 } });
    await until(async () => expect(await runs(world, store, jobId)).toEqual(['begin 1 one']));
    one.kill('SIGSTOP');
    await until(async () => expect(await runs(world, store, jobId)).toContain('begin 1 two alone'), 15_000);
    const waiting = await Promise.all(
      Array.from({ length: 20 }, () => enqueue(store, { partition, payload: { ms: 300 } })),
    );
    await new Promise((resolve) => setTimeout(resolve, 4_000));
    // What the sleeper would do next is to end its job: its time is over.
    one.kill('SIGCONT');
    await until(async () => expect(await results(store, jobId)).toEqual([{ by: 'two' }]), 15_000);
    await until(async () => expect((await lanes(store)).one).toBeGreaterThan(0), 20_000);
    await until(async () => {
      for (const each of waiting) expect(await results(store, each)).toHaveLength(1);
    }, 15_000);
    // A job that both began was taken under two leases, and accepted under one.
    expect(await results(store, jobId)).toEqual([{ by: 'two' }]);
    expect(one.exitCode ?? one.signalCode).toBeNull();
  });
});

describe('A worker that is told to stop', () => {
  it('hands over what it runs and what waits at once, also from a handler that does not listen', async () => {
    const { world, store, one, partition } = await twoWorkers({});
    const jobs = await Promise.all([
      enqueue(store, { partition, payload: { ms: 60_000 } }),
      enqueue(store, { partition, payload: { ms: 60_000, how: 'deaf' } }),
    ]);
    for (const job of jobs) await until(async () => expect(await runs(world, store, job)).toHaveLength(1));
    const stopped = Date.now();
    one.kill('SIGTERM');
    for (const job of jobs) {
      await until(async () => expect(await runs(world, store, job)).toEqual(['begin 1 one', 'begin 1 two']));
    }
    await until(async () => expect(await lanes(store)).toEqual({ two: PARTITIONS }));
    // A second to drain; a lease would have lasted for fifteen.
    expect(Date.now() - stopped).toBeLessThan(6_000);
    if (one.exitCode === null) await once(one, 'exit');
    expect(one.exitCode).toBe(0);
  });
});
