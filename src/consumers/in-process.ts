import type { JobRun } from '../commands/jobs/record.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { JobContext, JobDefinition } from './define-job.ts';
import { type Ending, endingOf, endingOfThrown } from './normalise.ts';
import type { Handling } from './perform.ts';

/** What a handler is told of its job: plain data, as it may run in another process. */
export type JobGiven = JobContext<unknown>['job'];

export function jobGiven({ spec, taken, attempt }: JobRun): JobGiven {
  return {
    id: taken.jobId,
    type: spec.type,
    payload: spec.payload,
    ...(spec.owner ? { owner: spec.owner } : {}),
    attempt,
    enqueuedAt: spec.enqueuedAt,
  };
}

/** Calls a handler. Whatever it comes to is an ending. Signal and logger are taken when it asks for them. */
export function callHandler(
  definition: JobDefinition,
  job: JobGiven,
  around: Pick<JobContext<unknown>, 'signal' | 'progress' | 'logger'>,
): Promise<Ending> {
  const context: JobContext<unknown> = {
    job,
    get signal() {
      return around.signal;
    },
    get logger() {
      return around.logger;
    },
    progress: around.progress,
    idempotencyKey: job.id,
  };
  return definition.perform(context).then((value) => endingOf(definition, value), endingOfThrown);
}

/** Runs a handler in this process. One that was given up can't be ended here: it is counted while it lingers. */
export function handleInProcess(
  definition: JobDefinition,
  job: JobGiven,
  around: Pick<JobContext<unknown>, 'signal' | 'progress' | 'logger'> & {
    readonly metrics: Pick<Metrics, 'jobHandlersLingering'>;
  },
): Omit<Handling, 'ended'> & { readonly ended: Promise<Ending> } {
  const ended = callHandler(definition, job, around);
  return {
    ended,
    async abandon() {
      const lingering = around.metrics.jobHandlersLingering;
      lingering.inc({ type: job.type });
      around.logger.error('the handler does not end although it was told to; its job goes on without it');
      void ended.then(() => lingering.dec({ type: job.type }));
    },
  };
}
