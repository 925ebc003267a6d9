import { Type } from 'typebox';
import { onTestFinished } from 'vitest';
import { defineJob, type JobContext, type JobDefinition } from '../../src/consumers/define-job.ts';
import { startWorkers, type WorkerDeps } from '../../src/consumers/workers.ts';
import type { JobType } from '../../src/domain/job-types.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import type { World } from '../support/world.ts';
import { jobDeps, roleDeps } from './support.ts';

export type Run = (context: JobContext<unknown>) => Promise<unknown>;

/** A type of jobs named `test`: any payload, any result, three attempts in quick succession. */
export function testJob(run: Run, more: Partial<Omit<JobType, 'payload'>> = {}): JobDefinition {
  return defineJob({
    type: 'test',
    enqueuedBy: 'accounts',
    queue: 'default',
    maxAttempts: 3,
    timeoutSeconds: 60,
    retry: { baseMs: 20, capMs: 100 },
    ...more,
    payload: Type.Unknown(),
    result: Type.Unknown(),
    run,
  });
}

/** Workers in this process, ready; they stop with the test, or before. */
export async function runWorkers(
  world: World,
  store: OpenEventStore,
  jobs: readonly JobDefinition[],
  more: Partial<WorkerDeps> = {},
) {
  const workers = await startWorkers({
    ...roleDeps(world, store),
    ...jobDeps(store),
    jobs,
    concurrency: 4,
    drainMs: 1_000,
    random: Math.random,
    ...more,
  });
  let stopped: Promise<void> | undefined;
  const stop = () => (stopped ??= workers.stop());
  onTestFinished(stop);
  await workers.ready();
  return { ...workers, stop };
}
