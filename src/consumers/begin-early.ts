import type { JobRun } from '../commands/jobs/record.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { JobDefinition } from './define-job.ts';
import { handleInProcess, jobGiven } from './in-process.ts';
import type { Ending } from './normalise.ts';
import type { Handling } from './perform.ts';

type Report = (percent: number, detail?: unknown) => void;

/** A handler that was called before anything says so. */
export type EarlyRun = {
  readonly run: JobRun;
  /** By `performance.now()`. */
  readonly beganAt: number;
  /** What it came to; undefined: it is not over soon, or has something to report. */
  readonly soon: Promise<Ending | undefined>;
  /**
   * From now on it is a run like others.
   * @param signal ends it
   * @param report takes its progress, and what it reported until now
   */
  goOn(signal: AbortSignal, report: Report): Handling;
};

/**
 * Calls a handler at once: its start is recorded when it is over, or after `soonMs`. What it may need in that time, a
 * signal or a logger, is made when it asks for it: most jobs that are over so soon never do.
 */
export function beginEarly(
  definition: JobDefinition,
  run: JobRun,
  deps: {
    readonly soonMs: number;
    readonly logger: () => Logger;
    readonly metrics: Pick<Metrics, 'jobHandlersLingering'>;
  },
): EarlyRun {
  let abort: AbortController | undefined;
  let report: Report | undefined;
  let reported: Parameters<Report> | undefined;
  const soon = Promise.withResolvers<Ending | undefined>();
  const beganAt = performance.now();
  const handling = handleInProcess(definition, jobGiven(run), {
    get signal() {
      abort ??= new AbortController();
      return abort.signal;
    },
    get logger() {
      return deps.logger();
    },
    progress(...progress) {
      if (report) report(...progress);
      else reported = progress;
      soon.resolve(undefined);
    },
    metrics: deps.metrics,
  });
  const late = setTimeout(soon.resolve, deps.soonMs, undefined);
  void handling.ended.then((ending) => {
    clearTimeout(late);
    soon.resolve(ending);
  });
  return {
    run,
    beganAt,
    soon: soon.promise,
    goOn(signal, to) {
      abort ??= new AbortController();
      const controller = abort;
      const pass = () => controller.abort(signal.reason);
      if (signal.aborted) pass();
      else signal.addEventListener('abort', pass, { once: true });
      report = to;
      if (reported) to(...reported);
      return handling;
    },
  };
}
