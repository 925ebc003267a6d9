import { describe, expect, it, onTestFinished } from 'vitest';
import { cancelJob } from '../../src/commands/jobs/requests.ts';
import { createCancellations } from '../../src/consumers/cancellations.ts';
import type { JobContext } from '../../src/consumers/define-job.ts';
import { type HintTopic, publishHint } from '../../src/consumers/hints.ts';
import { type JobId, streamId } from '../../src/domain/ids.ts';
import { type Run, runWorkers, testJob } from './running.ts';
import { enqueue, jobDeps, jobState, openWorld, quiet, until } from './support.ts';

async function running(run: Run) {
  const { world, store } = await openWorld();
  await runWorkers(world, store, [testJob(run)]);
  const jobId = await enqueue(store, { owner: 'acc-1' });
  await until(async () => expect((await jobState(store, jobId)).phase).toBe('running'));
  const cancel = (hint: boolean) =>
    cancelJob(
      {
        ...jobDeps(store),
        hmac: (_purpose, text) => text,
        idempotencyRetentionMs: 1_000,
        awaitDurability: async () => true,
        hint: {
          timer: () => {},
          cancel: (id) => hint && publishHint(store.writer.redis, world.prefix, 'cancels', id),
        },
      },
      { actor: 'acc-1', owner: 'acc-1', correlation: 'c', durability: 'memory' },
      { jobId, owner: 'acc-1' },
    );
  return { store, jobId, cancel };
}

/** Runs until it is told to end. */
const obedient = ({ signal }: JobContext<unknown>) =>
  new Promise<never>((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));

describe('A running job that is cancelled', () => {
  it('has its signal aborted, with the reason, and ends cancelled: no attempt failed', async () => {
    const reasons: unknown[] = [];
    const { store, jobId, cancel } = await running((context) =>
      obedient(context).catch((reason: unknown) => {
        reasons.push(reason);
        throw reason;
      }),
    );
    await cancel(true);
    await until(async () =>
      expect(await jobState(store, jobId)).toMatchObject({ phase: 'cancelled', attempts: 1 }),
    );
    expect(reasons).toMatchObject([{ name: 'JobCancelledError' }]);
    expect(await store.reader.redis.xlen(store.keys[0]?.work('default', 'normal') ?? '')).toBe(0);
  });

  it('is stopped also when the hint was lost: its worker looks by itself', async () => {
    const { store, jobId, cancel } = await running(obedient);
    await cancel(false);
    await until(async () => expect((await jobState(store, jobId)).phase).toBe('cancelled'), 8_000);
  });

  it('learns of it by its own progress', async () => {
    const { store, jobId, cancel } = await running((context) => {
      const timer = setInterval(() => context.progress(10), 100);
      return obedient(context).finally(() => clearInterval(timer));
    });
    await cancel(false);
    await until(async () => expect((await jobState(store, jobId)).phase).toBe('cancelled'), 4_500);
  });

  it('ends cancelled also when its handler does not listen, and its late result is dropped', async () => {
    const end = Promise.withResolvers<string>();
    const { store, jobId, cancel } = await running(() => end.promise);
    await cancel(true);
    end.resolve('too late');
    await until(async () => expect((await jobState(store, jobId)).phase).toBe('cancelled'));
  });
});

describe('A watch', () => {
  const jobId: JobId = streamId('job', 0, 'a'.repeat(20));

  function watching() {
    const listeners = new Set<(text: string) => void>();
    const hints = {
      publish: () => {},
      on(_topic: HintTopic, listener: (text: string) => void) {
        listeners.add(listener);
        return () => listeners.delete(listener);
      },
      close: () => {},
    };
    const cancellations = createCancellations(hints, quiet, 10);
    onTestFinished(() => cancellations.close());
    const hint = () => {
      for (const listener of listeners) listener(jobId);
    };
    return { cancellations, hint };
  }

  it('cancels nothing on a hint alone, and goes on when it could not ask', async () => {
    const { cancellations, hint } = watching();
    const answers: (() => boolean)[] = [
      () => false,
      () => {
        throw new Error('away');
      },
      () => true,
    ];
    let asked = 0;
    let cancelled = 0;
    cancellations.watch(
      jobId,
      async () => answers[Math.min(asked++, 2)]?.() ?? false,
      () => cancelled++,
    );
    hint();
    await until(() => expect(cancelled).toBe(1));
    expect(asked).toBeGreaterThanOrEqual(3);
    hint();
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(cancelled).toBe(1);
  });

  it('that has ended asks no more, and cancels nothing that it asked for before', async () => {
    const { cancellations, hint } = watching();
    const answer = Promise.withResolvers<boolean>();
    let cancelled = 0;
    const stop = cancellations.watch(
      jobId,
      () => answer.promise,
      () => cancelled++,
    );
    hint();
    stop();
    answer.resolve(true);
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(cancelled).toBe(0);
  });
});
