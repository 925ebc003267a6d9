import {
  isToEnd,
  type JobRun,
  openRun,
  phaseOf,
  recordProgress,
  recordStart,
  type TakenJob,
} from '../commands/jobs/runs.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { ATTR, SPAN } from '../telemetry/names.ts';
import { SpanKind, withSpan } from '../telemetry/tracing.ts';
import { backoffMs, follow, pause } from './backoff.ts';
import type { Cancellations } from './cancellations.ts';
import { type ConcludeDeps, conclude, type JobOutcome, outcomeOf } from './conclude.ts';
import type { Concurrency, HeldSlot } from './concurrency.ts';
import type { JobDefinition } from './define-job.ts';
import { enter } from './enter.ts';
import { type Children, handleInChild } from './in-child.ts';
import { handleInProcess, jobGiven } from './in-process.ts';
import type { Lease } from './leases.ts';
import { JobCancelledError, normaliseDetail } from './normalise.ts';
import { type Handling, perform } from './perform.ts';
import { persistently } from './persistently.ts';
import { createProgress } from './progress.ts';

/** A job that waited longer was scheduled or stuck: its run is a trace of its own, linked to the cause. */
const PROMPT_MS = 60_000;
/** Between two runs in processes of their own, when the first was taken down or did not come up. */
const AGAIN = { baseMs: 500, capMs: 60_000 };

export type JobToRun = TakenJob & {
  readonly type: string;
  readonly traceparent?: string;
};

export type JobRunnerDeps = ConcludeDeps & {
  readonly concurrency: Concurrency;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'jobs' | 'jobDuration' | 'jobWait' | 'jobHandlersLingering'>;
  readonly cancellations: Cancellations;
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
  /** Nothing is recorded any more. */
  readonly over: AbortSignal;
};

/** What a run knows of where it runs. */
type Around = {
  /** Under which the job was taken; once it is lost nothing more is recorded. */
  readonly lease: Lease;
  readonly drain: Drain;
  /** Aborted when nothing can be recorded any more. */
  readonly signal: AbortSignal;
  /** Aborted when somebody wants the job to end. */
  readonly cancelled: AbortController;
  readonly logger: Logger;
};

/** The process that ran the job alone ended without a word, or there was none: the job is to be run once more. */
type Again = { readonly again: true; readonly lastWords?: string };

/**
 * Runs a job until something is known of it: start → perform → normalise → record. Never rejects. One that may have
 * taken a worker down runs alone, in a process of its own: it waits for that without its slot, so that whatever it does
 * its neighbours go on.
 *
 * @param giveSlotBack called when the job needs its slot no more; perhaps never
 */
export async function runJob(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  job: JobToRun,
  at: { readonly lease: Lease; readonly drain: Drain; readonly giveSlotBack: () => void },
): Promise<JobOutcome> {
  const { lease, drain } = at;
  const recording = follow(lease.lost, drain.over);
  const logger = deps.logger.child({ jobId: job.jobId, jobType: job.type });
  const cancelled = new AbortController();
  const cancel = () => cancelled.abort(new JobCancelledError('the job is to end'));
  // From before the start on: who asks for the end of a job that has started finds somebody who listens.
  const unwatch = deps.cancellations.watch(job.jobId, () => isToEnd(deps, job), cancel);
  const waiting = follow(lease.lost, drain.stops, cancelled.signal);
  const around: Around = { lease, drain, signal: recording.signal, cancelled, logger };
  let place: (() => void) | undefined;
  let slot: HeldSlot | undefined;
  let lastWords: string | undefined;
  try {
    for (let failures = 0; ; ) {
      const opened = await persistently(logger, around.signal, () => openRun(deps, job));
      if (opened?.kind !== 'recorded' || phaseOf(opened.run) === 'cancelled') return outcomeOf(opened);
      const { run } = opened;
      if (run.alone && deps.children && !place) {
        at.giveSlotBack();
        place = await deps.children.slots.acquire(waiting.signal);
        if (!place && cancelled.signal.aborted) continue;
        if (!place) return 'left';
      }
      if (run.spec.slots && !slot) {
        const entered = await enter(deps, job, run, { signal: waiting.signal, logger });
        if (typeof entered === 'string') return entered;
        slot = entered;
      }
      const outcome = await withSpan(
        `${SPAN.process} ${job.type}`,
        spanOf(job, run, deps.now()),
        async (span) => {
          const outcome = await attempt(deps, definition, job, run, around, lastWords);
          span.setAttribute(ATTR.outcome, typeof outcome === 'string' ? outcome : 'gone');
          return outcome;
        },
      );
      if (typeof outcome === 'string') return outcome;
      lastWords = outcome.lastWords;
      await pause(backoffMs(++failures, AGAIN, 0.5 + deps.random() / 2), waiting.signal);
      if (waiting.signal.aborted && !cancelled.signal.aborted) return 'left';
    }
  } catch (err) {
    logger.error({ err }, 'a run was not recorded; the job is left for the next owner');
    return 'left';
  } finally {
    place?.();
    // Whoever has the job next takes over its slot with it: until then the handler may run on.
    if (lease.lost.aborted) slot?.forget();
    else await slot?.release();
    unwatch();
    waiting.stop();
    recording.stop();
  }
}

async function attempt(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  job: JobToRun,
  opened: JobRun,
  around: Around,
  lastWords: string | undefined,
): Promise<JobOutcome | Again> {
  const { type } = job;
  const { drain, signal, cancelled } = around;
  const logger = around.logger.child({ attempt: opened.attempt });
  const started = await persistently(logger, signal, () => recordStart(deps, opened, deps.worker, lastWords));
  if (started?.kind !== 'recorded' || phaseOf(started.run) !== 'running') return outcomeOf(started);
  if (opened.recovered) deps.metrics.jobs.inc({ type, outcome: 'recovered' });
  deps.metrics.jobWait.observe({ type }, Math.max(0, deps.now().getTime() - job.dueAt) / 1000);

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
  const begun = performance.now();
  const toEnd = follow(around.lease.lost, drain.toEnd, taken.signal, cancelled.signal);
  const performed = await perform(handlerOf(deps, definition, run, { logger, progress: progress.report }), {
    signal: toEnd.signal,
    giveUp: drain.giveUp,
    timeoutSeconds: run.spec.timeoutSeconds,
  });
  toEnd.stop();
  await progress.close();
  deps.metrics.jobDuration.observe({ type }, (performance.now() - begun) / 1000);

  if (performed.kind === 'gone') {
    deps.metrics.jobs.inc({ type, outcome: 'took_down' });
    logger.error({ lastWords: performed.how }, 'the job took down the process that it had to itself');
    return { again: true, lastWords: performed.how };
  }
  if (taken.signal.aborted && performed.kind === 'aborted') return 'left';
  const outcome = await conclude(deps, definition, run, performed, {
    signal,
    toEnd: cancelled.signal.aborted,
    logger,
  });
  if (outcome !== 'left' && outcome !== 'finished') deps.metrics.jobs.inc({ type, outcome });
  return performed.kind === 'not_begun' && outcome === 'interrupted' ? { again: true } : outcome;
}

function handlerOf(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  run: JobRun,
  around: { readonly logger: Logger; readonly progress: (percent: number, detail: unknown) => void },
): (signal: AbortSignal) => Promise<Handling | undefined> {
  const job = jobGiven(run);
  const { logger } = around;
  const progress = (percent: number, detail?: unknown) => around.progress(percent, normaliseDetail(detail));
  const { children, metrics } = deps;
  return async (signal) =>
    run.alone && children
      ? handleInChild(children.spawn, definition, job, { signal, logger, progress })
      : handleInProcess(definition, job, { signal, logger, progress, metrics });
}

function spanOf(job: JobToRun, run: JobRun, now: Date) {
  const prompt = run.attempt === 1 && !run.recovered && now.getTime() - job.dueAt < PROMPT_MS;
  return {
    kind: SpanKind.CONSUMER,
    ...(prompt ? { parent: job.traceparent } : { root: true, links: [job.traceparent] }),
    attributes: {
      [ATTR.messagingSystem]: 'redis',
      [ATTR.messagingOperation]: 'process',
      [ATTR.messagingDestination]: job.queue,
      [ATTR.messagingGroup]: job.lease.group,
      [ATTR.messagingMessageId]: job.entryId,
      [ATTR.jobId]: job.jobId,
      [ATTR.jobType]: job.type,
      [ATTR.jobAttempt]: run.attempt,
    },
  };
}
