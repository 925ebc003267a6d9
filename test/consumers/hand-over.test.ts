import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import { laneOf, lanes, PARTITIONS, runs, startWorker } from './processes.ts';
import { enqueue, jobState, openWorld, until } from './support.ts';

describe('Two worker processes', () => {
  it('split the partitions within seconds; one that stops hands its own over at once', async () => {
    const { world, store } = await openWorld({ partitions: PARTITIONS });
    const one = await startWorker(world, 'one');
    expect(await lanes(store)).toEqual({ one: PARTITIONS });
    await startWorker(world, 'two');
    const split = await until(async () => {
      const now = await lanes(store);
      expect(now.one ?? 0).toBeGreaterThan(0);
      expect(now.two ?? 0).toBeGreaterThan(0);
      expect(now.nobody ?? 0).toBe(0);
      return now;
    }, 15_000);
    expect((split.one ?? 0) + (split.two ?? 0)).toBe(PARTITIONS);

    one.kill('SIGTERM');
    await until(async () => expect(await lanes(store)).toEqual({ two: PARTITIONS }), 10_000);
    if (one.exitCode === null) await once(one, 'exit');
    expect(one.exitCode).toBe(0);
  });

  it('take over from one that was killed: what it ran is run once more, and completed once', async () => {
    const { world, store } = await openWorld({ partitions: PARTITIONS });
    const [one] = await Promise.all([startWorker(world, 'one'), startWorker(world, 'two')]);
    const partition = await until(() => laneOf(store, 'one'), 15_000);
    await until(async () => expect(Object.keys(await lanes(store)).toSorted()).toEqual(['one', 'two']));
    const jobId = await enqueue(store, { partition, payload: { ms: 400 } });
    await until(async () => expect(await runs(world, store, jobId)).toEqual(['begin 1 one']));

    one.kill('SIGKILL');
    const killed = Date.now();
    await until(async () => expect(await lanes(store)).toEqual({ two: PARTITIONS }), 20_000);
    expect(Date.now() - killed).toBeLessThan(20_000);
    await until(async () =>
      expect(await jobState(store, jobId)).toEqual({ phase: 'succeeded', attempts: 1 }),
    );
    expect(await runs(world, store, jobId)).toEqual(['begin 1 one', 'begin 1 two alone', 'end 1 two alone']);
  });

  it('that are the same instance are successor and predecessor: the leases are ended at the start', async () => {
    const { world, store } = await openWorld({ partitions: PARTITIONS });
    const first = await startWorker(world, 'one');
    first.kill('SIGKILL');
    await once(first, 'exit');
    expect(await lanes(store)).toEqual({ one: PARTITIONS });
    const begun = Date.now();
    await startWorker(world, 'one');
    const jobs = await Promise.all(
      store.keys.map(({ partition }) => enqueue(store, { partition, payload: { ms: 0 } })),
    );
    await until(async () => {
      for (const job of jobs) expect((await jobState(store, job)).phase).toBe('succeeded');
    }, 8_000);
    expect(Date.now() - begun).toBeLessThan(10_000);
  });
});
