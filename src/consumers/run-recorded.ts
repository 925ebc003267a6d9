import type { JobRun } from '../commands/jobs/record.ts';
import { isToEnd, openRun, phaseOf, recordProgress, recordStart } from '../commands/jobs/runs.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { backoffMs, follow, pause } from './backoff.ts';
import type { EarlyRun } from './begin-early.ts';
import type { Cancellations } from './cancellations.ts';
import { type ConcludeDeps, conclude, type JobOutcome, outcomeOf } from './conclude.ts';
import type { Concurrency, HeldSlot } from './concurrency.ts';
import type { JobDefinition } from './define-job.ts';
import { enter } from './enter.ts';
import { type Children, handleInChild } from './in-child.ts';
import { handleInProcess, jobGiven } from './in-process.ts';
import { inSpan } from './job-span.ts';
import type { Lease } from './leases.ts';
import { JobCancelledError, normaliseDetail } from './normalise.ts';
import { type Handling, perform } from './perform.ts';
import { persistently } from './persistently.ts';
import { createProgress } from './progress.ts';
import type { QuickTypes } from './quick-types.ts';
import type { JobToRun } from './take.ts';

/** Between two runs in processes of their own, when the first was taken down or did not come up. */
const AGAIN = { baseMs: 500, capMs: 60_000 };

export type JobRunnerDeps = ConcludeDeps & {
  readonly concurrency: Concurrency;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'jobs' | 'jobDuration' | 'jobWait' | 'jobHandlersLingering'>;
  readonly cancellations: Cancellations;
  readonly quickTypes: QuickTypes;
  /** Where jobs run that may have taken a worker down. Without it they run here, as all others do. */
  readonly children?: Children | undefined;
};

/** How a run is told that its lane ends: one signal after the other. */
export type Drain = {
  /** Nothing more is begun. */
  readonly stops: AbortSignal;
  /** The handler is to end. */
  readonly toEnd: AbortSignal;
  /** It is not waited for any longer. */
  readonly giveUp: AbortSignal;
  /** Nothing is recorded any more: there is no time left, or the lease is lost. */
  readonly over: AbortSignal;
};

/** Where a job is run. */
export type Place = {
  /** Under which the job was taken; once it is lost nothing more is recorded. */
  readonly lease: Lease;
  readonly drain: Drain;
  readonly giveBack: GiveBack;
};

/** How a run gives back before its end what it needs no more. */
export type GiveBack = {
  /** A handler's slot: it has ended, and is yet to be recorded. */
  readonly slot: () => void;
  /** That, and its place among those that are to be recorded: it waits for something else. */
  readonly all: () => void;
};

/** What a run knows of where it runs. */
type Around = Place & {
  /** Aborted when somebody wants the job to end. */
  readonly cancelled: AbortController;
  readonly logger: () => Logger;
};

/** The process that ran the job alone ended without a word, or there was none: the job is to be run once more. */
type Again = { readonly again: true; readonly lastWords?: string };

/**
 * Runs a job of which every start is recorded before its handler is called, or has begun a moment ago: start → perform →
 * normalise → record. One that may have taken a worker down runs alone, in a process of its own: it waits for that
 * without its slot, so that whatever it does its neighbours go on.
 *
 * @param early its handler, where that has begun, in a span that is active
 */
export async function runRecorded(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  job: JobToRun,
  place: Place,
  logger: () => Logger,
  early?: EarlyRun,
): Promise<JobOutcome> {
  const { lease, drain } = place;
  const cancelled = new AbortController();
  const cancel = () => cancelled.abort(new JobCancelledError('the job is to end'));
  // From before the start on: who asks for the end of a job that has started finds somebody who listens.
  const unwatch = deps.cancellations.watch(job.jobId, () => isToEnd(deps, job), cancel);
  const waiting = follow(lease.lost, drain.stops, cancelled.signal);
  const around: Around = { ...place, cancelled, logger };
  let child: (() => void) | undefined;
  let slot: HeldSlot | undefined;
  let lastWords: string | undefined;
  try {
    if (early) {
      const outcome = await attempt(deps, definition, job, early.run, around, { early });
      return typeof outcome === 'string' ? outcome : 'left';
    }
    for (let failures = 0; ; ) {
      const opened = await persistently(around.logger, drain.over, () => openRun(deps, job));
      if (opened?.kind !== 'recorded' || phaseOf(opened.run) === 'cancelled') return outcomeOf(opened);
      const { run } = opened;
      if (run.alone && deps.children && !child) {
        place.giveBack.all();
        child = await deps.children.slots.acquire(waiting.signal);
        if (!child && cancelled.signal.aborted) continue;
        if (!child) return 'left';
      }
      if (run.spec.slots && !slot) {
        const entered = await enter(deps, job, run, { signal: waiting.signal, logger: logger() });
        if (typeof entered === 'string') return entered;
        slot = entered;
      }
      const outcome = await inSpan(job, run, deps.now(), () =>
        attempt(deps, definition, job, run, around, { lastWords }),
      );
      if (typeof outcome === 'string') return outcome;
      lastWords = outcome.lastWords;
      await pause(backoffMs(++failures, AGAIN, 0.5 + deps.random() / 2), waiting.signal);
      if (waiting.signal.aborted && !cancelled.signal.aborted) return 'left';
    }
  } finally {
    child?.();
    // Whoever has the job next takes over its slot with it: until then the handler may run on.
    if (lease.lost.aborted) slot?.forget();
    else await slot?.release();
    unwatch();
    waiting.stop();
  }
}

async function attempt(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  job: JobToRun,
  opened: JobRun,
  around: Around,
  { early, lastWords }: { readonly early?: EarlyRun; readonly lastWords?: string | undefined },
): Promise<JobOutcome | Again> {
  const { type } = job;
  const { drain, cancelled } = around;
  const logger = around.logger().child({ attempt: opened.attempt });
  const started = await persistently(
    () => logger,
    drain.over,
    () => recordStart(deps, opened, deps.worker, lastWords),
  );
  if (started?.kind !== 'recorded' || phaseOf(started.run) !== 'running') {
    if (early) await endEarly(early, drain);
    return outcomeOf(started);
  }
  if (opened.recovered) deps.metrics.jobs.inc({ type, outcome: 'recovered' });
  if (!early) observeWait(deps, job);

  /** Somebody else has the job, or it has ended without us: a commit said so before the lease did. */
  const taken = new AbortController();
  let run = started.run;
  const progress = createProgress(async (percent, detail) => {
    const recorded = await recordProgress(deps, run, percent, detail).catch((err: unknown) => {
      logger.debug({ err }, 'progress was not recorded');
    });
    if (recorded?.kind === 'recorded') run = recorded.run;
    else if (recorded) taken.abort();
    if (phaseOf(run) === 'cancelling') cancelled.abort(new JobCancelledError('the job is to end'));
  });
  const begun = early?.beganAt ?? performance.now();
  const report = (percent: number, detail?: unknown) => progress.report(percent, normaliseDetail(detail));
  const handler = early
    ? async (signal: AbortSignal) => early.goOn(signal, report)
    : handlerOf(deps, definition, run, { logger, progress: report });
  const toEnd = follow(around.lease.lost, drain.toEnd, taken.signal, cancelled.signal);
  const performed = await perform(handler, {
    signal: toEnd.signal,
    giveUp: drain.giveUp,
    timeoutSeconds: run.spec.timeoutSeconds,
  });
  toEnd.stop();
  around.giveBack.slot();
  await progress.close();
  const ms = performance.now() - begun;
  deps.metrics.jobDuration.observe({ type }, ms / 1000);
  deps.quickTypes.note(type, ms <= deps.quickTypes.soonMs);

  if (performed.kind === 'gone') {
    deps.metrics.jobs.inc({ type, outcome: 'took_down' });
    logger.error({ lastWords: performed.how }, 'the job took down the process that it had to itself');
    return { again: true, lastWords: performed.how };
  }
  if (taken.signal.aborted && performed.kind === 'aborted') return 'left';
  const outcome = await conclude(deps, definition, run, performed, {
    signal: drain.over,
    toEnd: cancelled.signal.aborted,
    logger: () => logger,
  });
  if (outcome !== 'left' && outcome !== 'finished') deps.metrics.jobs.inc({ type, outcome });
  return performed.kind === 'not_begun' && outcome === 'interrupted' ? { again: true } : outcome;
}

/** Its job is somebody else's, or was cancelled before it was known to run. */
async function endEarly(early: EarlyRun, { giveUp }: Drain): Promise<void> {
  const ended = new AbortController();
  ended.abort(new JobCancelledError('the job is not to be run'));
  const { timeoutSeconds } = early.run.spec;
  await perform(async (signal) => early.goOn(signal, () => {}), {
    signal: ended.signal,
    giveUp,
    timeoutSeconds,
  });
}

/** How long it waited from when it was due. */
export function observeWait(deps: Pick<JobRunnerDeps, 'metrics' | 'now'>, { type, dueAt }: JobToRun): void {
  deps.metrics.jobWait.observe({ type }, Math.max(0, deps.now().getTime() - dueAt) / 1000);
}

function handlerOf(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  run: JobRun,
  around: { readonly logger: Logger; readonly progress: (percent: number, detail?: unknown) => void },
): (signal: AbortSignal) => Promise<Handling | undefined> {
  const job = jobGiven(run);
  const { logger, progress } = around;
  const { children, metrics } = deps;
  return async (signal) =>
    run.alone && children
      ? handleInChild(children.spawn, definition, job, { signal, logger, progress })
      : handleInProcess(definition, job, { signal, logger, progress, metrics });
}
