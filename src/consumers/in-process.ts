import type { JobRun } from '../commands/jobs/record.ts';
import type { Sealer } from '../domain/jobs/personal.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { JobContext, JobDefinition } from './define-job.ts';
import { type Ending, endingOf, endingOfThrown } from './normalise.ts';
import type { Handling } from './perform.ts';

/** What a handler is told of its job: plain data, as it may run in another process. */
export type JobGiven = JobContext<unknown>['job'];

/** @param sealer opens what its owner's key has sealed */
export function jobGiven({ spec, taken, attempt }: JobRun, sealer: Sealer): JobGiven {
  return {
    id: taken.jobId,
    type: spec.type,
    payload: sealer.open(spec.payload),
    ...(spec.owner ? { owner: spec.owner } : {}),
    attempt,
    enqueuedAt: spec.enqueuedAt,
  };
}

/** Calls a handler. Whatever it comes to is an ending. */
export function callHandler(
  definition: JobDefinition,
  job: JobGiven,
  around: Pick<JobContext<unknown>, 'signal' | 'progress' | 'logger'>,
): Promise<Ending> {
  const { signal, progress, logger } = around;
  const context = { job, signal, progress, logger, idempotencyKey: job.id };
  return callWith(definition, context, (ending) => ending);
}

/** The same, of a context that was made already. @param over is called with the ending first, and gives it back */
export function callWith(
  definition: JobDefinition,
  context: JobContext<unknown>,
  over: (ending: Ending) => Ending,
): Promise<Ending> {
  return definition.perform(context).then(
    (value) => over(endingOf(definition, value)),
    (thrown) => over(endingOfThrown(thrown)),
  );
}

/** Runs a handler in this process. */
export function handleInProcess(
  definition: JobDefinition,
  job: JobGiven,
  around: Pick<JobContext<unknown>, 'signal' | 'progress' | 'logger'> & Lingering,
): Handling {
  return handlingOf(callHandler(definition, job, around), job, { ...around, logger: () => around.logger });
}

type Lingering = { readonly metrics: Pick<Metrics, 'jobHandlersLingering'> };

/** A handler that was called in this process. One that was given up can't be ended here: it is counted while it lingers. */
export function handlingOf(
  ended: Promise<Ending>,
  { type }: Pick<JobGiven, 'type'>,
  around: Lingering & { readonly logger: () => Logger },
): Handling {
  return {
    ended,
    async abandon() {
      const lingering = around.metrics.jobHandlersLingering;
      lingering.inc({ type });
      around.logger().error('the handler does not end although it was told to; its job goes on without it');
      void ended.then(() => lingering.dec({ type }));
    },
  };
}
