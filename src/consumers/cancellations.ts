import type { JobId } from '../domain/ids.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Hints } from './hints.ts';

/** A hint may be lost, so whoever runs jobs asks for himself this often: one read for each running job. */
const LOOK_EVERY_MS = 5_000;

/** Tells the runs of this process that their jobs are to end, wherever that was asked for. */
export type Cancellations = {
  /**
   * @param asked whether the job is to end: the truth, of which a hint only says that it is time to look
   * @param cancel called once, if it is
   * @returns a function that ends the watch
   */
  watch(jobId: JobId, asked: () => Promise<boolean>, cancel: () => void): () => void;
  close(): void;
};

export function createCancellations(hints: Hints, logger: Logger, everyMs = LOOK_EVERY_MS): Cancellations {
  const watches = new Map<JobId, Set<() => void>>();
  const look = (jobId: string) => {
    for (const check of watches.get(jobId as JobId) ?? []) check();
  };
  const unhint = hints.on('cancels', look);
  const timer = setInterval(() => {
    for (const jobId of watches.keys()) look(jobId);
  }, everyMs).unref();

  return {
    watch(jobId, asked, cancel) {
      let over = false;
      const check = () => {
        asked().then(
          (yes) => {
            if (!yes || over) return;
            stop();
            cancel();
          },
          (err: unknown) => logger.debug({ err, jobId }, 'it is not known whether a job is to end'),
        );
      };
      const checks = watches.get(jobId) ?? new Set();
      watches.set(jobId, checks.add(check));
      const stop = () => {
        over = true;
        checks.delete(check);
        if (checks.size === 0 && watches.get(jobId) === checks) watches.delete(jobId);
      };
      return stop;
    },
    close() {
      unhint();
      clearInterval(timer);
      watches.clear();
    },
  };
}
