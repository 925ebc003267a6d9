import type { JobRun } from '../commands/jobs/record.ts';
import type { Sealer } from '../domain/jobs/personal.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Alarm } from './alarm.ts';
import type { JobContext, JobDefinition } from './define-job.ts';
import { callWith, handlingOf, type JobGiven, jobGiven } from './in-process.ts';
import type { Ending } from './normalise.ts';
import type { Handling } from './perform.ts';

type Report = (percent: number, detail?: unknown) => void;

/** A handler that was called before anything says so. */
export type EarlyRun = {
  readonly run: JobRun;
  readonly sealer: Sealer;
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

type EarlyDeps = {
  /** Calls back when a run is not over soon; gives what says that it is. */
  readonly whenLate: Alarm;
  readonly logger: () => Logger;
  readonly metrics: Pick<Metrics, 'jobHandlersLingering'>;
};

/**
 * What a handler is given that is called early. What it may need in that time, a signal or a logger, is made when it asks
 * for it: most jobs that are over so soon never do. A class, as tens of thousands a second are made: getters in an object
 * of its own would be made anew for each.
 */
class EarlyContext implements JobContext<unknown> {
  readonly job: JobGiven;
  readonly idempotencyKey: string;
  readonly progress: Report;
  #logger: () => Logger;
  #abort: AbortController | undefined;

  constructor(job: JobGiven, progress: Report, logger: () => Logger) {
    this.job = job;
    this.idempotencyKey = job.id;
    this.progress = progress;
    this.#logger = logger;
  }

  get logger(): Logger {
    return this.#logger();
  }

  get signal(): AbortSignal {
    return this.abort.signal;
  }

  get abort(): AbortController {
    this.#abort ??= new AbortController();
    return this.#abort;
  }
}

/** Calls a handler at once: its start is recorded when it is over, or when it is late. */
export function beginEarly(
  definition: JobDefinition,
  run: JobRun,
  sealer: Sealer,
  deps: EarlyDeps,
): EarlyRun {
  let report: Report | undefined;
  let reported: Parameters<Report> | undefined;
  const soon = Promise.withResolvers<Ending | undefined>();
  const beganAt = performance.now();
  const job = jobGiven(run, sealer);
  const progress: Report = (...progressed) => {
    if (report) report(...progressed);
    else reported = progressed;
    soon.resolve(undefined);
  };
  const context = new EarlyContext(job, progress, deps.logger);
  const inTime = deps.whenLate(() => soon.resolve(undefined), beganAt);
  const ended = callWith(definition, context, (ending) => {
    inTime();
    soon.resolve(ending);
    return ending;
  });
  return {
    run,
    sealer,
    beganAt,
    soon: soon.promise,
    goOn(signal, to) {
      const { abort } = context;
      const pass = () => abort.abort(signal.reason);
      if (signal.aborted) pass();
      else signal.addEventListener('abort', pass, { once: true });
      report = to;
      if (reported) to(...reported);
      return handlingOf(ended, job, deps);
    },
  };
}
