import { accept, type Decision, refuse } from '../decision.ts';
import type { Failure, JobEvent } from './events.ts';
import { type Job, type JobSpec, jobIsFinished, jobIsRunning, type KeptJob } from './state.ts';

/** A job that took a process of its own down this often is not given another. */
export const MOST_TAKEDOWNS = 3;

const finished = () => refuse('job_finished', 'The job has ended; its result stands.');

export function cancelled({ spec, attempts }: KeptJob): Decision<JobEvent> {
  return accept({ type: 'JobCancelled', data: { type: spec.type, attempts, ...calling(spec) } });
}

/** Who is told of an end: in the event itself, so that the notifier looks up nothing, and passes all others over. */
function calling({ callbackUrl }: JobSpec): { callbackUrl?: string } {
  return callbackUrl === undefined ? {} : { callbackUrl };
}

/** Whether its next run gets a process of its own: one before it ended without a word. */
export function runsAlone(state: Job): boolean {
  return state.phase === 'running' || ('suspect' in state && state.suspect);
}

/**
 * Starts a run. A job found running lost its worker: the same attempt begins again, as a recovery and alone. One that
 * was to be cancelled when its worker was lost is cancelled now; one that took down the third process that it had to
 * itself is a dead letter.
 *
 * @param lastWords how that process ended, where somebody saw it
 */
export function startJob(state: Job, worker: string, lastWords?: string): Decision<JobEvent> {
  if (!('spec' in state) || jobIsFinished(state)) return finished();
  if (state.phase === 'cancelling') return cancelled(state);
  const { type } = state.spec;
  const recovered = state.phase === 'running';
  const attempt = recovered ? state.attempts : state.attempts + 1;
  if (state.phase === 'running' && state.alone && state.takedowns + 1 >= MOST_TAKEDOWNS) {
    return accept({
      type: 'JobDeadLettered',
      data: {
        type,
        attempt,
        error: tookDown(lastWords),
        worker,
        reason: 'takedowns',
        ...placeOf(state.spec),
        ...calling(state.spec),
      },
    });
  }
  const alone = runsAlone(state);
  return accept({
    type: 'JobStarted',
    data: { type, attempt, worker, recovered, ...(alone ? { alone } : {}) },
  });
}

/** What a dead letter says of where it stands. */
function placeOf({ queue, orderingKey, lane }: KeptJob['spec']) {
  return {
    queue,
    ...(orderingKey === undefined ? {} : { orderingKey }),
    ...(lane === undefined ? {} : { lane }),
  };
}

function tookDown(lastWords: string | undefined): Failure {
  const last = lastWords === undefined ? '' : ` The last one: ${lastWords}.`;
  return {
    name: 'TakedownError',
    message: `The job ended its worker without a word, and then ${MOST_TAKEDOWNS} processes that it had to itself.${last}`,
    fingerprint: 'takedown',
  };
}

/** Of a job that is to end nothing more is said. */
export function progressJob(state: Job, progress: number, detail?: unknown): Decision<JobEvent> {
  if (state.phase === 'cancelling') return accept();
  if (state.phase !== 'running') return finished();
  const data = { type: state.spec.type, progress: Math.min(100, Math.max(0, progress)) };
  return accept({ type: 'JobProgressed', data: detail === undefined ? data : { ...data, detail } });
}

/** Accepts a result; not that of a job whose cancellation was recorded first. */
export function completeJob(state: Job, result: unknown): Decision<JobEvent> {
  if (state.phase === 'cancelling') return cancelled(state);
  if (state.phase !== 'running') return finished();
  const { spec, attempts: attempt } = state;
  return accept({ type: 'JobCompleted', data: { type: spec.type, attempt, result, ...calling(spec) } });
}

/** Records that a worker stops and can't wait for the run: it begins anew elsewhere, as the same attempt. */
export function interruptJob(state: Job, worker: string): Decision<JobEvent> {
  if (state.phase === 'cancelling') return cancelled(state);
  if (state.phase === 'queued') return accept();
  if (state.phase !== 'running') return finished();
  return accept({ type: 'JobInterrupted', data: { type: state.spec.type, attempt: state.attempts, worker } });
}

/** Puts a run off: the same attempt begins at `until` (RFC 3339 UTC). */
export function snoozeJob(state: Job, until: string): Decision<JobEvent> {
  if (state.phase === 'cancelling') return cancelled(state);
  if (state.phase !== 'running') return finished();
  const data = { type: state.spec.type, attempt: state.attempts, until: dueAgain(state, until) };
  return accept({ type: 'JobSnoozed', data });
}

/**
 * Records a failed attempt: a retry at `retryAt`, or the dead letters once `maxAttempts` is used up or the
 * error says that trying again is of no use.
 */
export function failJob(
  state: Job,
  input: {
    readonly error: Failure;
    /** RFC 3339 UTC */
    readonly retryAt: string;
    readonly final: boolean;
    readonly worker?: string;
    readonly ignoredAbort?: boolean;
  },
): Decision<JobEvent> {
  if (state.phase === 'cancelling') return cancelled(state);
  if (state.phase !== 'running') return finished();
  const { type, maxAttempts } = state.spec;
  const { error, worker, ignoredAbort } = input;
  const attempt = state.attempts;
  const data = {
    type,
    attempt,
    error,
    ...(worker === undefined ? {} : { worker }),
    ...(ignoredAbort ? { ignoredAbort } : {}),
  };
  if (input.final || attempt - state.before >= maxAttempts) {
    const reason = input.final ? 'no_retry' : 'attempts';
    const place = { ...placeOf(state.spec), ...calling(state.spec) };
    return accept({ type: 'JobDeadLettered', data: { ...data, reason, ...place } });
  }
  const retryAt = dueAgain(state, input.retryAt);
  return accept({ type: 'JobAttemptFailed', data: { ...data, retryAt } });
}

/** Ends a run that was told to end, whether or not the state that its worker knows says so yet. */
export function endCancelledJob(state: Job): Decision<JobEvent> {
  return jobIsRunning(state) ? cancelled(state) : finished();
}

/**
 * When it is due next, at that time: never the same millisecond as before, or a work entry that a cancellation left
 * behind would pass for the new one. Older ones can't come up again: entries of a job are taken in their order.
 */
export function dueAgain(state: KeptJob, time: string): string {
  const due = Date.parse(time);
  return new Date(due === state.dueAt ? due + 1 : due).toISOString();
}
