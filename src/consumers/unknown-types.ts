import { hasEnded, openRun } from '../commands/jobs/runs.ts';
import type { JobDeps } from '../commands/jobs/taken.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Cancellations } from './cancellations.ts';
import { persistently } from './persistently.ts';
import type { JobToRun } from './take.ts';

/** Jobs that this process has taken and can't run: their work entries stay pending until an owner comes that can. */
export type UnknownTypes = {
  /** Counts a job, and takes its entry away if it ends without having run; until the signal comes, with its lane. */
  leave(job: JobToRun, until: AbortSignal): void;
};

export function createUnknownTypes(
  deps: JobDeps & {
    readonly cancellations: Cancellations;
    readonly metrics: Pick<Metrics, 'jobsOfUnknownType'>;
    readonly logger: Logger;
  },
): UnknownTypes {
  const { cancellations, metrics, logger } = deps;
  const told = new Set<string>();

  return {
    leave(job, until) {
      const { type, jobId } = job;
      if (!told.has(type)) logger.error({ jobType: type, jobId }, 'jobs wait for code that knows their type');
      told.add(type);
      metrics.jobsOfUnknownType.inc({ type });
      const unwatch = cancellations.watch(jobId, () => hasEnded(deps, job), settle);
      const stop = () => {
        unwatch();
        until.removeEventListener('abort', stop);
        metrics.jobsOfUnknownType.dec({ type });
      };
      until.addEventListener('abort', stop);

      function settle(): void {
        // Writes only where there is nothing to run.
        void persistently(logger, until, () => openRun(deps, job))
          .catch((err: unknown) => logger.error({ err, jobId }, 'a job that has ended keeps its work entry'))
          .then(() => {
            if (!until.aborted) stop();
          });
      }
    },
  };
}
