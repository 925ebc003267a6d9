import type { JobRecorded, JobRun } from '../commands/jobs/record.ts';
import {
  phaseOf,
  recordCancellation,
  recordCompletion,
  recordFailure,
  recordInterruption,
  recordSnooze,
} from '../commands/jobs/runs.ts';
import type { JobDeps } from '../commands/jobs/taken.ts';
import { partitionOf } from '../domain/ids.ts';
import { PLAIN, type Sealer, sealedFailure } from '../domain/jobs/personal.ts';
import type { Logger } from '../telemetry/logging.ts';
import { backoffMs } from './backoff.ts';
import type { JobDefinition } from './define-job.ts';
import { fingerprintForAll } from './fingerprint.ts';
import type { Performed } from './perform.ts';
import { persistently } from './persistently.ts';

/**
 * How a run ended. `interrupted` and `left` stay with their work entry: of the first, the log says that it ended;
 * of the second nothing could be said any more, or somebody else has it. `finished` had ended before;
 * `waiting` was not begun, and is to be once it has a slot.
 */
export type JobOutcome =
  | 'succeeded'
  | 'retried'
  | 'snoozed'
  | 'failed'
  | 'cancelled'
  | 'interrupted'
  | 'finished'
  | 'waiting'
  | 'left';

export type ConcludeDeps = JobDeps & {
  readonly worker: string;
  /** 0 ≤ n < 1 */
  readonly random: () => number;
  /** A timer was set for `dueAt` (ms since 1970). */
  readonly onTimer: (partition: number, dueAt: number) => void;
};

/** Records what a run came to, as long as its lease lasts. @param around.toEnd somebody wants the job to end */
export function conclude(
  deps: ConcludeDeps,
  definition: JobDefinition,
  run: JobRun,
  performed: Exclude<Performed, { kind: 'gone' }>,
  around: {
    readonly signal: AbortSignal;
    readonly toEnd: boolean;
    readonly logger: () => Logger;
    /** Of whose job it is. */
    readonly sealer: Sealer;
  },
): Promise<JobOutcome> {
  const { signal, toEnd, sealer } = around;
  const recorded = (work: () => Promise<JobRecorded>) => persistently(around.logger, signal, work, outcomeOf);
  switch (performed.kind) {
    case 'returned':
      return recorded(() => recordCompletion(deps, run, sealer.json(performed.value)));
    case 'snoozed':
      return snooze(deps, run, performed, recorded);
    case 'failed':
      return fail(deps, definition, run, performed, { recorded, logger: around.logger, sealer });
    case 'aborted':
      if (toEnd) return recorded(() => recordCancellation(deps, run));
      around.logger().warn('stopped before its end; the next owner runs it again');
      return recorded(() => recordInterruption(deps, run, deps.worker));
    case 'not_begun':
      return recorded(() => recordInterruption(deps, run, deps.worker));
  }
}

async function snooze(
  deps: ConcludeDeps,
  run: JobRun,
  { untilMs, delayMs }: Extract<Performed, { kind: 'snoozed' }>,
  recorded: (work: () => Promise<JobRecorded>) => Promise<JobOutcome>,
): Promise<JobOutcome> {
  const until = delayMs === undefined ? untilMs : deps.now().getTime() + delayMs;
  const outcome = await recorded(() => recordSnooze(deps, run, new Date(until)));
  if (outcome === 'snoozed') deps.onTimer(partitionOf(run.taken.jobId), until);
  return outcome;
}

async function fail(
  deps: ConcludeDeps,
  definition: JobDefinition,
  run: JobRun,
  failed: Extract<Performed, { kind: 'failed' }>,
  around: {
    readonly recorded: (work: () => Promise<JobRecorded>) => Promise<JobOutcome>;
    readonly logger: () => Logger;
    readonly sealer: Sealer;
  },
): Promise<JobOutcome> {
  const { final, ignoredAbort } = failed;
  const isPlain = around.sealer === PLAIN;
  const said = isPlain ? failed.error : { ...failed.error, fingerprint: fingerprintForAll(failed.error) };
  const error = sealedFailure(said, around.sealer);
  const delay = (failed.retryAfterMs ?? 0) + backoffMs(run.turn, definition.retry, deps.random());
  const retryAt = new Date(deps.now().getTime() + delay);
  const failure = { error, retryAt, final, ignoredAbort, worker: deps.worker };
  const outcome = await around.recorded(() => recordFailure(deps, run, failure));
  if (outcome === 'retried') deps.onTimer(partitionOf(run.taken.jobId), retryAt.getTime());
  // Of a person's job what it says is for who may open it.
  const { name, fingerprint } = error;
  const fields = { error: isPlain ? error : { name, fingerprint }, ignoredAbort };
  if (outcome === 'retried') around.logger().warn({ ...fields, retryAt }, 'attempt failed');
  else if (outcome === 'failed') around.logger().warn(fields, 'dead-lettered');
  return outcome;
}

/** What a recording led to. */
export function outcomeOf(recorded: JobRecorded | undefined): JobOutcome {
  if (recorded?.kind !== 'recorded') return recorded?.kind === 'finished' ? 'finished' : 'left';
  const phase = phaseOf(recorded.run);
  switch (phase) {
    case 'succeeded':
    case 'failed':
    case 'cancelled':
      return phase;
    case 'retrying':
      return 'retried';
    case 'scheduled':
      return 'snoozed';
    case 'queued':
      return 'interrupted';
    default:
      return 'left';
  }
}
