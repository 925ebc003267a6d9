import { setTimeout as sleep } from 'node:timers/promises';
import { Type } from 'typebox';
import { describe, expect, it, onTestFinished } from 'vitest';
import { defineJob, RetryLaterError, SnoozeError } from '../../src/consumers/define-job.ts';
import { PLAIN } from '../../src/domain/jobs/personal.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { type Run, runWorkers, testJob } from './running.ts';
import { enqueue, history, jobState, openWorld, until } from './support.ts';

/** Workers that run one job at a time; its result is to be a number. */
async function running(run: Run) {
  const { world, store } = await openWorld();
  const metrics = createMetrics({ node: false });
  const job = defineJob({
    ...testJob(run),
    payload: Type.Unknown(),
    result: Type.Number(),
    run: async (context) => (await run(context)) as number,
  });
  const { stop } = await runWorkers(world, store, [job], { metrics, concurrency: 1, drainMs: 500 });
  const lingering = async () => {
    const { values } = await metrics.jobHandlersLingering.get();
    return values.find(({ labels }) => labels.type === 'test')?.value ?? 0;
  };
  return { store, stop, lingering };
}

describe('A handler that ignores its signal', () => {
  it('gives its slot back all the same, is marked, counted while it lingers, and its late result is refused', async () => {
    const late = Promise.withResolvers<number>();
    const { store, lingering } = await running(({ job }) =>
      job.payload === 'deaf' ? late.promise : Promise.resolve(2),
    );
    const deaf = await enqueue(store, { payload: 'deaf', timeoutSeconds: 1, maxAttempts: 1 });
    await until(async () => expect((await jobState(store, deaf)).phase).toBe('running'));
    const next = await enqueue(store);
    await until(async () => expect((await jobState(store, next)).phase).toBe('succeeded'), 15_000);
    expect(await lingering()).toBe(1);
    expect((await history(store, deaf)).at(-1)).toMatchObject({
      type: 'JobDeadLettered',
      data: { ignoredAbort: true, error: { name: 'JobTimeoutError' }, reason: 'attempts' },
    });
    const before = await history(store, deaf);
    late.resolve(1);
    await until(async () => expect(await lingering()).toBe(0));
    const after = await enqueue(store);
    await until(async () => expect((await jobState(store, after)).phase).toBe('succeeded'));
    expect(await history(store, deaf)).toEqual(before);
  });

  it('is not marked when it ended in time, though with an error of its own', async () => {
    const { store } = await running(async ({ signal }) => {
      await sleep(60_000, undefined, { signal }).catch(() => {});
      throw new Error('cleaned up');
    });
    const id = await enqueue(store, { timeoutSeconds: 1, maxAttempts: 1 });
    await until(async () => expect((await jobState(store, id)).phase).toBe('failed'));
    const { data } = (await history(store, id)).at(-1) ?? {};
    expect(data).toMatchObject({ error: { name: 'JobTimeoutError' } });
    expect(data.ignoredAbort).toBeUndefined();
  });

  it('is interrupted when its worker stops: that is in the log before the lease is given back', async () => {
    const end = Promise.withResolvers<number>();
    onTestFinished(() => end.resolve(0));
    const { store, stop } = await running(() => end.promise);
    const id = await enqueue(store);
    await until(async () => expect((await jobState(store, id)).phase).toBe('running'));
    await stop();
    expect((await history(store, id)).at(-1)?.type).toBe('JobInterrupted');
    const owner = await store.reader.redis.exists(store.keys[0]?.lease('lane:default') ?? '');
    expect(owner).toBe(0);
  });
});

describe('A handler may', () => {
  it('put its job off, by what it throws or returns: that is no attempt and no failure', async () => {
    const runs: number[] = [];
    const { store } = await running(async ({ job }) => {
      runs.push(job.attempt);
      if (runs.length === 1) throw new SnoozeError({ delayMs: 100 });
      if (runs.length === 2) return new SnoozeError({ untilMs: Date.now() + 100 });
      return 3;
    });
    const id = await enqueue(store, { maxAttempts: 1 });
    await until(async () =>
      expect(await jobState(store, id)).toMatchObject({ phase: 'succeeded', attempts: 1 }),
    );
    expect(runs).toEqual([1, 1, 1]);
    expect((await history(store, id)).map(({ type }) => type)).toEqual([
      'JobEnqueued',
      ...['JobStarted', 'JobSnoozed', 'JobStarted', 'JobSnoozed'],
      ...['JobStarted', 'JobCompleted'],
    ]);
  });

  it('ask for no time that there is not', () => {
    expect(() => new SnoozeError({ untilMs: Number.NaN })).toThrow(RangeError);
    expect(() => new SnoozeError({ delayMs: Number.POSITIVE_INFINITY })).toThrow(RangeError);
  });

  it('say how long not to try again, up to a day', async () => {
    const { store } = await running(async () => {
      throw new RetryLaterError('busy', { retryAfterMs: 1e12 });
    });
    const id = await enqueue(store);
    await until(async () => expect((await jobState(store, id)).phase).toBe('retrying'));
    const { data } = (await history(store, id)).at(-1) ?? {};
    const ms = Date.parse(data.retryAt) - Date.now();
    expect(ms).toBeGreaterThan(86_000_000);
    expect(ms).toBeLessThan(86_401_000);
  });

  it('not return what is no result of its type: that is a dead letter that says so', async () => {
    const { store } = await running(async () => 'three');
    const id = await enqueue(store);
    await until(async () => expect((await jobState(store, id)).phase).toBe('failed'));
    expect((await history(store, id)).at(-1)?.data).toMatchObject({
      attempt: 1,
      reason: 'no_retry',
      error: { name: 'InvalidResultError', message: expect.stringContaining('must be number') },
    });
  });

  it('fail with a cause, which is kept with the failure', async () => {
    const { store } = await running(async () => {
      throw new Error('fetch failed', { cause: new Error('connect ECONNREFUSED 192.0.2.1:443') });
    });
    const id = await enqueue(store, { maxAttempts: 1 });
    await until(async () => expect((await jobState(store, id)).phase).toBe('failed'));
    const { data } = (await history(store, id)).at(-1) ?? {};
    expect(data.error.stack).toMatch(/fetch failed[\s\S]*caused by: Error: connect ECONNREFUSED/);
    expect(data.worker).toMatch(/#/);
  });
});

it('What a person’s job fails with is sealed, and told apart by nothing that follows from its message', async () => {
  const { world, store } = await openWorld();
  const sealer = { ...PLAIN, text: () => 'sealed:v1:AAAA' };
  const job = testJob(
    async ({ job: { payload } }) => {
      throw `no letter for ${payload}`;
    },
    { maxAttempts: 1 },
  );
  await runWorkers(world, store, [job], {
    seals: { ready: () => sealer, load: async () => sealer },
  });
  const owner = 'acc-00ada';
  const ids = [
    await enqueue(store, { owner, payload: 'Ada' }),
    await enqueue(store, { owner, payload: 'Bob' }),
  ];
  const failures = [];
  for (const id of ids) {
    await until(async () => expect((await jobState(store, id)).phase).toBe('failed'));
    failures.push((await history(store, id)).at(-1)?.data.error);
  }
  const fingerprint = expect.stringMatching(/^[0-9a-f]{16}$/);
  expect(failures[0]).toEqual({ name: 'Error', message: 'sealed:v1:AAAA', fingerprint });
  expect(failures[1]).toEqual(failures[0]);
});
