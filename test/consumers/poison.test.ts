import { once } from 'node:events';
import { describe, expect, it } from 'vitest';
import type { JobId } from '../../src/domain/ids.ts';
import { children, isAlive, PARTITIONS, runs, startWorker } from './processes.ts';
import { enqueue, history, jobState, openWorld, until } from './support.ts';

const INNOCENT = 49;

const shortLeases = { leaseMs: 3_000, renewEveryMs: 500 };

describe('Jobs that take their worker down', () => {
  it('do so once, then only processes of their own, and are dead letters; the 49 beside them succeed', async () => {
    const { world, store } = await openWorld({ partitions: PARTITIONS });
    const one = await startWorker(world, 'one', shortLeases, [], { concurrency: 60 });
    let partition = 0;
    const next = () => partition++ % PARTITIONS;
    const innocent = await Promise.all(
      Array.from({ length: INNOCENT }, () =>
        enqueue(store, { partition: next(), payload: { ms: 60_000, on: 'one' } }),
      ),
    );
    const poisons = await Promise.all(
      (['exit', 'abort', 'stray', 'hog'] as const).map((how) =>
        enqueue(store, { partition: next(), payload: { ms: how === 'exit' ? 2_000 : 4_000, how } }),
      ),
    );
    const phases = (ids: readonly JobId[]) =>
      Promise.all(ids.map(async (id) => (await jobState(store, id)).phase));
    await until(async () =>
      expect(await phases([...innocent, ...poisons])).toEqual(Array(INNOCENT + 4).fill('running')),
    );
    await once(one, 'exit');

    await startWorker(world, 'two', shortLeases, [], { concurrency: 1, children: 3 });
    const later = await enqueue(store, { partition: 3, payload: { ms: 0 } });
    await until(async () => expect((await jobState(store, later)).phase).toBe('succeeded'), 10_000);
    expect(await phases(poisons)).not.toContain('failed');
    await until(
      async () => expect(await phases(innocent)).toEqual(Array(INNOCENT).fill('succeeded')),
      240_000,
    );
    await until(async () => expect(await phases(poisons)).toEqual(Array(4).fill('failed')), 120_000);

    for (const id of poisons) {
      const events = await history(store, id);
      expect(events.map(({ type }) => type)).toEqual([
        'JobEnqueued',
        ...Array(4).fill('JobStarted'),
        'JobDeadLettered',
      ]);
      expect(events.slice(1).map(({ data }) => [data.attempt, data.alone ?? false])).toEqual([
        [1, false],
        ...Array(3).fill([1, true]),
        [1, false],
      ]);
      expect(events.at(-1)?.data).toMatchObject({ reason: 'takedowns', error: { name: 'TakedownError' } });
      expect(await runs(world, store, id)).toEqual(['begin 1 one', ...Array(3).fill('begin 1 two alone')]);
    }
    expect(await children(world, store)).toHaveLength(INNOCENT + 3 * poisons.length);
  }, 400_000);

  it('by a loop that never ends are ended by the watchdog, then by their time: that is a failed attempt', async () => {
    const { world, store } = await openWorld({ partitions: PARTITIONS });
    const one = await startWorker(world, 'one', { ...shortLeases, silentMs: 1_500 });
    const id = await enqueue(store, {
      payload: { ms: 3_600_000, how: 'hang' },
      maxAttempts: 2,
      timeoutSeconds: 1,
    });
    await once(one, 'exit');
    expect(one.signalCode).toBe('SIGABRT');
    const two = await startWorker(world, 'two', { ...shortLeases, silentMs: 1_500 });
    await until(async () => expect((await jobState(store, id)).phase).toBe('failed'), 60_000);

    const events = await history(store, id);
    expect(events.map(({ type, data }) => [type, data.attempt, data.alone ?? false])).toEqual([
      ['JobEnqueued', undefined, false],
      ['JobStarted', 1, false],
      ['JobStarted', 1, true],
      ['JobAttemptFailed', 1, false],
      ['JobStarted', 2, true],
      ['JobDeadLettered', 2, false],
    ]);
    expect(events.at(-1)?.data).toMatchObject({
      reason: 'attempts',
      ignoredAbort: true,
      error: { name: 'JobTimeoutError' },
    });
    expect(two.exitCode ?? two.signalCode).toBeNull();
    for (const pid of await children(world, store)) expect(isAlive(pid)).toBe(false);
  });

  it('leave no process behind when their worker is killed while they hang', async () => {
    const { world, store } = await openWorld({ partitions: PARTITIONS });
    const timing = { ...shortLeases, silentMs: 1_500 };
    const one = await startWorker(world, 'one', timing);
    const id = await enqueue(store, { payload: { ms: 3_600_000, how: 'hang' } });
    await once(one, 'exit');
    const two = await startWorker(world, 'two', timing);
    await until(async () => expect((await runs(world, store, id)).at(-1)).toBe('begin 1 two alone'), 20_000);
    const [pid] = await children(world, store);
    if (pid === undefined) throw new Error('there is no such process');
    expect(isAlive(pid)).toBe(true);
    two.kill('SIGKILL');
    await until(() => expect(isAlive(pid)).toBe(false), 15_000);
  });
});
