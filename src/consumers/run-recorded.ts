import type { JobRun } from '../commands/jobs/record.ts';
import { isToEnd, openRun, phaseOf, recordProgress, recordStart } from '../commands/jobs/runs.ts';
import { PLAIN, type Sealer } from '../domain/jobs/personal.ts';
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
import { handleInProcess, type JobGiven, jobGiven } from './in-process.ts';
import { inSpan } from './job-span.ts';
import type { Lease } from './leases.ts';
import { JobCancelledError, normaliseDetail, normaliseError } from './normalise.ts';
import { type Handling, perform } from './perform.ts';
import { persistently } from './persistently.ts';
import { createProgress } from './progress.ts';
import type { QuickTypes } from './quick-types.ts';
import { personOf, type Seals } from './seals.ts';
import type { JobToRun } from './take.ts';

/** Between two runs in processes of their own, when the first was taken down or did not come up. */
const AGAIN = { baseMs: 500, capMs: 60_000 };

export type JobRunnerDeps = ConcludeDeps & {
  readonly concurrency: Concurrency;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'jobs' | 'jobDuration' | 'jobWait' | 'jobHandlersLingering'>;
  readonly cancellations: Cancellations;
  readonly quickTypes: QuickTypes;
  readonly seals: Seals;
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
      const { sealer } = early;
      const outcome = await attempt(deps, definition, job, early.run, around, { early, sealer });
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
      const sealer = await sealerOf(deps, definition, run, { logger, signal: waiting.signal });
      if (!sealer && cancelled.signal.aborted) continue;
      if (!sealer) return 'left';
      const outcome = await inSpan(job, run, deps.now(), () =>
        attempt(deps, definition, job, run, around, { lastWords, sealer }),
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
  {
    early,
    lastWords,
    sealer: found,
  }: {
    readonly early?: EarlyRun;
    readonly lastWords?: string | undefined;
    readonly sealer: Sealer | 'erased' | 'missing';
  },
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
  if (typeof found === 'string') return withoutKey(deps, definition, started.run, found, around);
  const sealer = found;

  /** Somebody else has the job, or it has ended without us: a commit said so before the lease did. */
  const taken = new AbortController();
  let run = started.run;
  const progress = createProgress(async (percent, detail) => {
    const said = detail === undefined ? undefined : sealer.json(detail);
    const recorded = await recordProgress(deps, run, percent, said).catch((err: unknown) => {
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
    : handlerOf(deps, definition, jobGiven(run, sealer), run.alone, { logger, progress: report });
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
    sealer,
  });
  if (outcome !== 'left' && outcome !== 'finished') deps.metrics.jobs.inc({ type, outcome });
  return performed.kind === 'not_begun' && outcome === 'interrupted' ? { again: true } : outcome;
}

/** Undefined: the signal came first. While Postgres is away it is waited for: a run without the key would be an attempt lost. */
async function sealerOf(
  { seals }: Pick<JobRunnerDeps, 'seals'>,
  definition: JobDefinition,
  { spec }: JobRun,
  { logger, signal }: { readonly logger: () => Logger; readonly signal: AbortSignal },
): Promise<Sealer | 'erased' | 'missing' | undefined> {
  const person = personOf(definition, spec);
  if (person === undefined) return PLAIN;
  for (let failures = 0; !signal.aborted; ) {
    try {
      return seals.ready(person) ?? (await seals.load(person));
    } catch (err) {
      logger().warn({ err }, 'the key of the job’s owner cannot be had; trying again');
      await pause(backoffMs(++failures, AGAIN, 0.5), signal);
    }
  }
  return undefined;
}

/** Of a person who was erased nothing is run any more. That a key is missing of anybody else is a fault, for an operator to see. */
function withoutKey(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  run: JobRun,
  why: 'erased' | 'missing',
  { drain, logger }: Around,
): Promise<JobOutcome> {
  const around = { signal: drain.over, logger, sealer: PLAIN };
  if (why === 'erased')
    return conclude(deps, definition, run, { kind: 'aborted' }, { ...around, toEnd: true });
  const error = normaliseError(new Error('the key of the person whose job it is is missing'));
  const failed = { kind: 'failed', error, final: false, ignoredAbort: false } as const;
  return conclude(deps, definition, run, failed, { ...around, toEnd: false });
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
  job: JobGiven,
  alone: boolean,
  around: { readonly logger: Logger; readonly progress: (percent: number, detail?: unknown) => void },
): (signal: AbortSignal) => Promise<Handling | undefined> {
  const { logger, progress } = around;
  const { children, metrics } = deps;
  return async (signal) =>
    alone && children
      ? handleInChild(children.spawn, definition, job, { signal, logger, progress })
      : handleInProcess(definition, job, { signal, logger, progress, metrics });
}
