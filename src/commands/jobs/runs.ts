import type { Failure } from '../../domain/jobs/events.ts';
import {
  completeJob,
  endCancelledJob,
  failJob,
  interruptJob,
  progressJob,
  runsAlone,
  snoozeJob,
  startJob,
} from '../../domain/jobs/runs.ts';
import { type Job, jobFold, jobIsFinished, jobIsRunning } from '../../domain/jobs/state.ts';
import type { Loaded } from '../../eventstore/types.ts';
import { type JobRecorded, type JobRun, record } from './record.ts';
import { finishEntry, isIts, type JobDeps, type TakenJob } from './taken.ts';

/**
 * What a run would be: the next attempt, or the recovery of the last. Writes nothing, unless there is nothing to run:
 * the job has ended, or was to end when its last worker was lost.
 */
export async function openRun(deps: JobDeps, taken: TakenJob): Promise<JobRecorded> {
  const loaded = await deps.store.load(taken.jobId, jobFold);
  const run = runOf(taken, loaded);
  if (!run) return finishEntry(deps, taken, loaded.state);
  return loaded.state.phase === 'cancelling' ? recordCancellation(deps, run) : { kind: 'recorded', run };
}

/**
 * The same at once, by the state that came with the work entry a moment ago. Undefined: it did not, or does not suffice,
 * or the job is not simply to be run; `openRun` knows.
 */
export function openKept(
  { store }: Pick<JobDeps, 'store'>,
  taken: TakenJob & { readonly state?: string },
): JobRun | undefined {
  const loaded = taken.state === undefined ? undefined : store.loadKept(taken.jobId, jobFold, taken.state);
  return loaded && loaded.state.phase !== 'cancelling' ? runOf(taken, loaded) : undefined;
}

/** Undefined: nothing is to be run by the entry. */
function runOf(taken: TakenJob, loaded: Loaded<Job>): JobRun | undefined {
  const { state } = loaded;
  if (!isIts(taken, state) || jobIsFinished(state)) return undefined;
  const { spec, before } = state;
  const recovered = jobIsRunning(state);
  const attempt = recovered ? state.attempts : state.attempts + 1;
  return { taken, spec, attempt, turn: attempt - before, recovered, alone: runsAlone(state), loaded };
}

/** What a recording led to, of a job that goes on or of one that has ended. */
export function phaseOf({ loaded }: JobRun): Job['phase'] {
  return loaded.state.phase;
}

/** Whether somebody wants the job to end: to be asked while it runs. */
export async function isToEnd(deps: Pick<JobDeps, 'store'>, taken: TakenJob): Promise<boolean> {
  const { state } = await deps.store.load(taken.jobId, jobFold);
  return state.phase === 'cancelling' && state.dueAt === taken.dueAt;
}

/** Whether nothing is left to be run by this entry, or will be once somebody opens it. */
export async function hasEnded(deps: Pick<JobDeps, 'store'>, taken: TakenJob): Promise<boolean> {
  const { state } = await deps.store.load(taken.jobId, jobFold);
  return !isIts(taken, state) || jobIsFinished(state) || state.phase === 'cancelling';
}

/**
 * Leads to `running`, or to `failed` when the job has taken too many processes down.
 *
 * @param worker who runs it, for people to read
 * @param lastWords how the process of the run before this one ended, where it was seen
 */
export function recordStart(
  deps: JobDeps,
  run: JobRun,
  worker: string,
  lastWords?: string,
): Promise<JobRecorded> {
  const { unrecorded, ...starting } = run;
  // Past the guard of commands, or full queues would never empty: lanes start nothing from the guard's next step on.
  return record(deps, starting, {
    ...(unrecorded ? { at: unrecorded.at } : {}),
    decide: (state) => startJob(state, worker, lastWords),
    leadsTo: ['running', 'failed'],
    memory: 'completion',
  });
}

/** Leads to `running`, or finds the job `cancelling`. */
export function recordProgress(
  deps: JobDeps,
  run: JobRun,
  progress: number,
  detail?: unknown,
): Promise<JobRecorded> {
  return record(deps, run, {
    decide: (state) => progressJob(state, progress, detail),
    leadsTo: ['running'],
    memory: 'command',
  });
}

/** Records the result: leads to `succeeded`, or to `cancelled` if that was asked for before. */
export function recordCompletion(deps: JobDeps, run: JobRun, result: unknown): Promise<JobRecorded> {
  return record(deps, run, {
    decide: (state) => completeJob(state, result),
    leadsTo: ['succeeded'],
    memory: 'completion',
  });
}

/** Records a failed attempt: leads to `retrying`, with a timer, to `failed`, or to `cancelled`. */
export function recordFailure(
  deps: JobDeps,
  run: JobRun,
  failure: {
    readonly error: Failure;
    readonly retryAt: Date;
    readonly final: boolean;
    readonly worker: string;
    readonly ignoredAbort: boolean;
  },
): Promise<JobRecorded> {
  const input = { ...failure, retryAt: failure.retryAt.toISOString() };
  return record(deps, run, {
    decide: (state) => failJob(state, input),
    leadsTo: ['retrying', 'failed'],
    memory: 'completion',
  });
}

/** Records that a run was stopped because somebody wanted it to: leads to `cancelled`. */
export function recordCancellation(deps: JobDeps, run: JobRun): Promise<JobRecorded> {
  return record(deps, run, { decide: endCancelledJob, leadsTo: ['cancelled'], memory: 'completion' });
}

/**
 * Records that the run ended because its worker could not go on with it: leads to `queued`. The work entry stays, so
 * that the lane's next owner finds it pending.
 */
export function recordInterruption(deps: JobDeps, run: JobRun, worker: string): Promise<JobRecorded> {
  return record(deps, run, {
    decide: (state) => interruptJob(state, worker),
    leadsTo: ['queued'],
    memory: 'completion',
    keepsEntry: true,
  });
}

/** Puts the run off: leads to `scheduled`, with a timer, or to `cancelled`. */
export function recordSnooze(deps: JobDeps, run: JobRun, until: Date): Promise<JobRecorded> {
  return record(deps, run, {
    decide: (state) => snoozeJob(state, until.toISOString()),
    leadsTo: ['scheduled'],
    memory: 'completion',
  });
}
