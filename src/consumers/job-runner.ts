import {
  isToEnd,
  type JobDeps,
  type JobRecorded,
  type JobRun,
  openRun,
  phaseOf,
  recordCancellation,
  recordCompletion,
  recordFailure,
  recordProgress,
  recordStart,
  type TakenJob,
} from '../commands/jobs/runs.ts';
import { partitionOf } from '../domain/ids.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { ATTR, SPAN } from '../telemetry/names.ts';
import { type Span, SpanKind, withSpan } from '../telemetry/tracing.ts';
import { backoffMs, follow } from './backoff.ts';
import type { Cancellations } from './cancellations.ts';
import type { JobDefinition } from './define-job.ts';
import type { Lease } from './leases.ts';
import {
  isFinal,
  JobCancelledError,
  leastDelayMs,
  normaliseDetail,
  normaliseError,
  normaliseResult,
} from './normalise.ts';
import { type Performed, perform } from './perform.ts';
import { persistently } from './persistently.ts';
import { createProgress } from './progress.ts';

/** A job that waited longer was scheduled or stuck: its run is a trace of its own, linked to the cause. */
const PROMPT_MS = 60_000;

export type JobToRun = TakenJob & {
  readonly type: string;
  readonly traceparent?: string;
};

export type JobRunnerDeps = JobDeps & {
  readonly worker: string;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'jobs' | 'jobDuration' | 'jobWait'>;
  /** 0 ≤ n < 1 */
  readonly random: () => number;
  /** A retry was set for `dueAt` (ms since 1970). */
  readonly onTimer: (partition: number, dueAt: number) => void;
  readonly cancellations: Cancellations;
};

/** How a run ended: `left` stays with its work entry for the next owner; `finished` had ended before. */
export type JobOutcome = 'succeeded' | 'retried' | 'failed' | 'cancelled' | 'finished' | 'left';

/**
 * One run of a job: start → perform → normalise → record. Never rejects.
 *
 * @param lease under which the job was taken; once it is lost nothing more is recorded
 * @param drain aborted when the worker will wait no longer: the handler is stopped and the job left as it is
 */
export async function runJob(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  job: JobToRun,
  lease: Lease,
  drain: AbortSignal,
): Promise<JobOutcome> {
  const { signal, stop } = follow(lease.lost, drain);
  const logger = deps.logger.child({ jobId: job.jobId, jobType: job.type });
  try {
    const opened = await persistently(logger, signal, () => openRun(deps, job));
    if (opened?.kind !== 'recorded' || phaseOf(opened.run) === 'cancelled') return outcomeOf(opened);
    return await withSpan(`${SPAN.process} ${job.type}`, spanOf(job, opened.run), async (span) => {
      const outcome = await attempt(deps, definition, job, opened.run, signal, logger);
      describe(span, outcome);
      return outcome;
    });
  } catch (err) {
    logger.error({ err }, 'a run was not recorded; the job is left for the next owner');
    return 'left';
  } finally {
    stop();
  }
}

async function attempt(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  job: JobToRun,
  opened: JobRun,
  signal: AbortSignal,
  parentLogger: Logger,
): Promise<JobOutcome> {
  const { type } = job;
  const logger = parentLogger.child({ attempt: opened.attempt });
  /** Somebody else has the job, or it has ended without us: a commit said so before the lease did. */
  const taken = new AbortController();
  const cancelled = new AbortController();
  const cancel = () => cancelled.abort(new JobCancelledError('the job is to end'));
  // From before the start on: who asks for the end of a job that has started finds somebody who listens.
  const unwatch = deps.cancellations.watch(job.jobId, () => isToEnd(deps, job), cancel);
  try {
    const started = await persistently(logger, signal, () => recordStart(deps, opened, deps.worker));
    if (started?.kind !== 'recorded' || phaseOf(started.run) !== 'running') return outcomeOf(started);
    if (opened.recovered) deps.metrics.jobs.inc({ type, outcome: 'recovered' });
    deps.metrics.jobWait.observe({ type }, Math.max(0, deps.now().getTime() - job.dueAt) / 1000);

    let run = started.run;
    const progress = createProgress(async (percent, detail) => {
      const recorded = await recordProgress(deps, run, percent, detail).catch((err: unknown) => {
        logger.debug({ err }, 'progress was not recorded');
      });
      if (recorded?.kind === 'recorded') run = recorded.run;
      else if (recorded) taken.abort();
      if (phaseOf(run) === 'cancelling') cancel();
    });
    const begun = performance.now();
    const around = follow(signal, taken.signal, cancelled.signal);
    const performed = await perform(definition, run, {
      signal: around.signal,
      logger,
      progress: (percent, detail) => progress.report(percent, normaliseDetail(detail)),
    });
    around.stop();
    await progress.close();
    deps.metrics.jobDuration.observe({ type }, (performance.now() - begun) / 1000);

    const toEnd = cancelled.signal.aborted;
    const outcome = await conclude(deps, definition, run, performed, { signal, toEnd, logger });
    const counted = outcome === 'left' || outcome === 'finished' ? 'cancelled' : outcome;
    deps.metrics.jobs.inc({ type, outcome: counted });
    return outcome;
  } finally {
    unwatch();
  }
}

async function conclude(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  run: JobRun,
  performed: Performed,
  around: { readonly signal: AbortSignal; readonly toEnd: boolean; readonly logger: Logger },
): Promise<JobOutcome> {
  const { signal, toEnd, logger } = around;
  if (performed.kind === 'aborted') {
    if (toEnd) return outcomeOf(await persistently(logger, signal, () => recordCancellation(deps, run)));
    logger.warn('stopped before its end; the next owner runs it again');
    return 'left';
  }
  const result = normalised(definition, performed);
  if ('value' in result) {
    return outcomeOf(await persistently(logger, signal, () => recordCompletion(deps, run, result.value)));
  }
  const { error } = result;
  const delay = leastDelayMs(error) + backoffMs(run.turn, definition.retry, deps.random());
  const retryAt = new Date(deps.now().getTime() + delay);
  const recorded = await persistently(logger, signal, () =>
    recordFailure(deps, run, { error: normaliseError(error), retryAt, final: isFinal(error) }),
  );
  const outcome = outcomeOf(recorded);
  if (outcome === 'retried') deps.onTimer(partitionOf(run.taken.jobId), retryAt.getTime());
  if (outcome === 'retried') logger.warn({ err: error, retryAt }, 'attempt failed');
  else if (outcome === 'failed') logger.warn({ err: error }, 'dead-lettered');
  return outcome;
}

function normalised(
  definition: JobDefinition,
  performed: Exclude<Performed, { kind: 'aborted' }>,
): { value: unknown } | { error: unknown } {
  if (performed.kind === 'threw') return { error: performed.error };
  try {
    return { value: normaliseResult(definition, performed.value) };
  } catch (error) {
    return { error };
  }
}

function outcomeOf(recorded: JobRecorded | undefined): JobOutcome {
  if (recorded?.kind !== 'recorded') return recorded?.kind === 'finished' ? 'finished' : 'left';
  switch (phaseOf(recorded.run)) {
    case 'succeeded':
    case 'failed':
    case 'cancelled':
      return phaseOf(recorded.run) as 'succeeded' | 'failed' | 'cancelled';
    case 'retrying':
      return 'retried';
    default:
      return 'left';
  }
}

function spanOf(job: JobToRun, run: JobRun) {
  const prompt = run.attempt === 1 && !run.recovered && Date.now() - job.dueAt < PROMPT_MS;
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

function describe(span: Span, outcome: JobOutcome): void {
  span.setAttribute(ATTR.outcome, outcome);
}
