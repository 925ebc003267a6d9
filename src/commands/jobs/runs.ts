import type { Decision } from '../domain/decision.ts';
import { type JobId, partitionOf } from '../domain/ids.ts';
import {
  completeJob,
  type Failure,
  failJob,
  type Job,
  type JobEvent,
  type JobSpec,
  jobFold,
  progressJob,
  startJob,
} from '../domain/jobs.ts';
import { type EventStore, type Loaded, OutcomeUnknownError, type Work } from '../eventstore/types.ts';
import { type CommandDeps, changeOf, encodeChange } from './handle.ts';

export type JobDeps = Pick<CommandDeps, 'now' | 'randomText' | 'traceCommit'> & {
  readonly store: Pick<EventStore, 'load' | 'commit'>;
};

/** A work entry that was taken, and the lease under which it was. */
export type TakenJob = {
  readonly jobId: JobId;
  readonly queue: string;
  readonly priority: string;
  readonly entryId: string;
  readonly lease: { readonly group: string; readonly token: number };
};

/** A job as a worker knows it: each recording gives the next one. */
export type JobRun = {
  readonly taken: TakenJob;
  readonly spec: JobSpec;
  /** 1 for the first. */
  readonly attempt: number;
  /** The run before ended without a word. */
  readonly recovered: boolean;
  readonly loaded: Loaded<Job>;
};

export type JobRecorded =
  | { readonly kind: 'recorded'; readonly run: JobRun }
  /** The job has ended already, or never was: its work entry is gone now, and nothing is to be done. */
  | { readonly kind: 'finished' }
  /** Another owner has the job: stop, and drop what came of it. */
  | { readonly kind: 'lease_lost' };

const ATTEMPTS = 10;
const ACTOR = 'system:worker';

/** What a run would be: the next attempt, or the recovery of the last. Writes nothing unless the job has ended. */
export async function openRun(deps: JobDeps, taken: TakenJob): Promise<JobRecorded> {
  const loaded = await deps.store.load(taken.jobId, jobFold);
  const { state } = loaded;
  if (!('spec' in state)) return finishEntry(deps, taken);
  const recovered = state.phase === 'running';
  const attempt = recovered ? state.attempts : state.attempts + 1;
  return { kind: 'recorded', run: { taken, spec: state.spec, attempt, recovered, loaded } };
}

/** @param worker who runs it, for people to read */
export function recordStart(deps: JobDeps, run: JobRun, worker: string): Promise<JobRecorded> {
  // Past the guard of commands, or full queues would never empty: lanes start nothing from the guard's next step on.
  return record(deps, run, {
    decide: (state) => startJob(state, worker),
    leadsTo: ['running'],
    memory: 'completion',
  });
}

export function recordProgress(
  deps: JobDeps,
  run: JobRun,
  progress: number,
  detail?: unknown,
): Promise<JobRecorded> {
  return record(deps, run, {
    decide: (state) => progressJob(state, progress, detail),
    leadsTo: ['running'],
  });
}

/** Records the result and removes the work entry, in one commit. */
export function recordCompletion(deps: JobDeps, run: JobRun, result: unknown): Promise<JobRecorded> {
  return record(deps, run, {
    decide: (state) => completeJob(state, result),
    leadsTo: ['succeeded'],
    memory: 'completion',
    finishes: true,
  });
}

/** Records a failed attempt, sets the timer of the next (if there is one) and removes the work entry. */
export function recordFailure(
  deps: JobDeps,
  run: JobRun,
  failure: { readonly error: Failure; readonly retryAt: Date; readonly final: boolean },
): Promise<JobRecorded> {
  const input = { ...failure, retryAt: failure.retryAt.toISOString() };
  return record(deps, run, {
    decide: (state) => failJob(state, input),
    leadsTo: ['retrying', 'failed'],
    memory: 'completion',
    finishes: true,
    timer: (state, traceparent) =>
      state.phase === 'retrying'
        ? {
            queue: run.taken.queue,
            priority: run.taken.priority,
            jobId: run.taken.jobId,
            type: run.spec.type,
            dueAt: failure.retryAt.getTime(),
            ...(traceparent ? { traceparent } : {}),
          }
        : undefined,
  });
}

type Recording = {
  readonly decide: (state: Job) => Decision<JobEvent>;
  /**
   * Phases that it may lead to. Only the lease's holder writes to a running job: one that is found there, at the
   * next version, after a reply was lost was written by this very recording.
   */
  readonly leadsTo: readonly Job['phase'][];
  /** Default: 'command', refused while memory is short. */
  readonly memory?: 'completion';
  /** Removes the work entry. */
  readonly finishes?: boolean;
  readonly timer?: (state: Job, traceparent: string | undefined) => Work | undefined;
};

async function record(deps: JobDeps, run: JobRun, recording: Recording): Promise<JobRecorded> {
  const { taken } = run;
  let { loaded } = run;
  for (let attempt = 1; ; attempt++) {
    const decision = recording.decide(loaded.state);
    if (!decision.ok) return finishEntry(deps, taken);
    const context = { actor: ACTOR, correlation: run.spec.correlation, ...ownerOf(run.spec) };
    const stream = { streamId: taken.jobId, ...loaded };
    const change = changeOf(context, deps.now().toISOString(), stream, jobFold, decision.events);
    const state = change.state.value as Job;
    const committed = await commit(deps, taken, (traceparent) => {
      const timer = recording.timer?.(state, traceparent);
      return {
        appends: [encodeChange(deps, { ...context, ...(traceparent ? { traceparent } : {}) }, change)],
        ...(timer ? { timers: [timer] } : {}),
        ...(recording.finishes ? { finished: [taken] } : {}),
        memory: recording.memory ?? 'command',
      };
    });
    if (committed === 'lease_lost') return { kind: 'lease_lost' };
    if (committed !== 'conflict' && committed !== 'unknown') {
      const expected = { kind: 'loaded' as const, version: change.version };
      const next = { state, version: change.version, lastSeq: committed.seq, expected };
      return { kind: 'recorded', run: { ...run, loaded: next } };
    }
    const lostAt = committed === 'unknown' ? loaded.version : undefined;
    if (attempt >= ATTEMPTS) throw new Error(`${taken.jobId} changes faster than its worker can follow`);
    loaded = await deps.store.load(taken.jobId, jobFold);
    if (
      lostAt !== undefined &&
      loaded.version === lostAt + 1 &&
      recording.leadsTo.includes(loaded.state.phase)
    ) {
      return { kind: 'recorded', run: { ...run, loaded } };
    }
  }
}

/** Removes the entry of a job for which nothing is left to do. */
async function finishEntry(deps: JobDeps, taken: TakenJob): Promise<JobRecorded> {
  const committed = await commit(deps, taken, () => ({
    appends: [],
    finished: [taken],
    memory: 'completion',
  }));
  return { kind: committed === 'lease_lost' ? 'lease_lost' : 'finished' };
}

type Contents = Pick<Parameters<EventStore['commit']>[0], 'appends' | 'timers' | 'finished' | 'memory'>;

async function commit(
  deps: JobDeps,
  taken: TakenJob,
  contents: (traceparent: string | undefined) => Contents,
): Promise<{ seq: number } | 'conflict' | 'lease_lost' | 'unknown'> {
  const partition = partitionOf(taken.jobId);
  try {
    const outcome = await deps.traceCommit(partition, (traceparent) =>
      deps.store.commit({ partition, lease: taken.lease, ...contents(traceparent) }),
    );
    if (outcome.kind === 'committed' || outcome.kind === 'replayed') return outcome.position;
    if (outcome.kind === 'claim_reused') throw new Error('a commit of a worker makes no claim');
    return outcome.kind;
  } catch (error) {
    if (error instanceof OutcomeUnknownError) return 'unknown';
    throw error;
  }
}

function ownerOf({ owner }: JobSpec): { owner?: string } {
  return owner ? { owner } : {};
}
