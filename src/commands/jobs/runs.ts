import type { Decision } from '../../domain/decision.ts';
import { type JobId, partitionOf } from '../../domain/ids.ts';
import type { Failure, JobEvent } from '../../domain/jobs/events.ts';
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
import {
  holdsItsLane,
  type Job,
  type JobSpec,
  jobFold,
  jobIsFinished,
  jobIsRunning,
} from '../../domain/jobs/state.ts';
import { type EventStore, type Loaded, OutcomeUnknownError } from '../../eventstore/types.ts';
import { type CommandDeps, changeOf, encodeChange } from '../handle.ts';
import { freedBy } from '../keys.ts';
import { workOf } from '../work.ts';

export type JobDeps = Pick<CommandDeps, 'now' | 'randomText' | 'traceCommit'> & {
  readonly store: Pick<EventStore, 'load' | 'commit'>;
};

/** A work entry that was taken, and the lease under which it was. */
export type TakenJob = {
  readonly jobId: JobId;
  readonly queue: string;
  readonly priority: string;
  readonly entryId: string;
  /** When it became due, ms since 1970: what tells the job's own entry from one that a cancellation left behind. */
  readonly dueAt: number;
  /** Of a job with an ordering key: it holds this lane. */
  readonly lane?: string;
  readonly lease: { readonly group: string; readonly token: number };
};

/** A job as a worker knows it: each recording gives the next one. */
export type JobRun = {
  readonly taken: TakenJob;
  readonly spec: JobSpec;
  /** 1 for the first. */
  readonly attempt: number;
  /** Of this number since the job was enqueued, or retried by hand: what backoff goes by. */
  readonly turn: number;
  /** The run before ended without a word. */
  readonly recovered: boolean;
  /** It is to have a process of its own. */
  readonly alone: boolean;
  readonly loaded: Loaded<Job>;
  /** Its handler has begun, and no commit says so yet: the next one does. */
  readonly unrecorded?: Begun;
};

/** Who began a run, for people to read, and when (RFC 3339 UTC). */
export type Begun = { readonly worker: string; readonly at: string };

export type JobRecorded =
  | { readonly kind: 'recorded'; readonly run: JobRun }
  /** The job has ended already, or never was: its work entry is gone now, and nothing is to be done. */
  | { readonly kind: 'finished' }
  /** Another owner has the job, or a later run of this one: stop, and drop what came of it. */
  | { readonly kind: 'lease_lost' };

const ATTEMPTS = 10;
const ACTOR = 'system:worker';

/**
 * What a run would be: the next attempt, or the recovery of the last. Writes nothing, unless there is nothing to run:
 * the job has ended, or was to end when its last worker was lost.
 *
 * @param kept its state's text, as it came with the work entry a moment ago
 */
export async function openRun(deps: JobDeps, taken: TakenJob, kept?: string): Promise<JobRecorded> {
  const loaded = await deps.store.load(taken.jobId, jobFold, kept);
  const { state } = loaded;
  if (!isIts(taken, state) || jobIsFinished(state)) return finishEntry(deps, taken, state);
  const { spec, before } = state;
  const recovered = jobIsRunning(state);
  const attempt = recovered ? state.attempts : state.attempts + 1;
  const alone = runsAlone(state);
  const run = { taken, spec, attempt, turn: attempt - before, recovered, alone, loaded };
  return state.phase === 'cancelling' ? recordCancellation(deps, run) : { kind: 'recorded', run };
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

type Recording = {
  readonly decide: (state: Job) => Decision<JobEvent>;
  /** When it happened, RFC 3339 UTC, where it is recorded late. */
  readonly at?: string;
  /**
   * Phases that it may lead to. Of a running job only the lease's holder writes these: one that is found there, at
   * the next version, after a reply was lost was written by this very recording.
   */
  readonly leadsTo: readonly Job['phase'][];
  /** Commands are refused while memory is short. */
  readonly memory: 'command' | 'completion';
  /** The job is to be run by the entry that it has. Of a job that has ended it goes all the same. */
  readonly keepsEntry?: boolean;
};

/** Commits what was decided; with it, the work entry goes as soon as the job does not run any more. */
async function record(deps: JobDeps, run: JobRun, recording: Recording): Promise<JobRecorded> {
  const { taken } = run;
  let { loaded } = run;
  for (let attempt = 1; ; attempt++) {
    if (!isIts(taken, loaded.state)) return finishEntry(deps, taken, loaded.state);
    // Under one lease a job may be started again while a handler of its last run lingers on.
    if (loaded.state.runs !== runsOf(run.loaded.state)) return { kind: 'lease_lost' };
    const decision = decide(run, recording, loaded.state);
    // By its entry a job that has not ended is yet to be run: only that of one that has ended may go.
    if (!decision.ok) {
      return jobIsFinished(loaded.state) ? finishEntry(deps, taken, loaded.state) : { kind: 'lease_lost' };
    }
    if (decision.events.length === 0) return { kind: 'recorded', run: { ...run, loaded } };
    const context = { actor: ACTOR, correlation: run.spec.correlation, ...ownerOf(run.spec) };
    const stream = { streamId: taken.jobId, ...loaded };
    const at = recording.at ?? deps.now().toISOString();
    const folded = changeOf(context, at, stream, jobFold, decision.events);
    const change = run.unrecorded ? { ...folded, begunAt: run.unrecorded.at } : folded;
    const state = change.state.value as Job;
    const committed = await commit(deps, taken, (traceparent) => ({
      appends: [encodeChange(deps, { ...context, ...(traceparent ? { traceparent } : {}) }, change)],
      ...(staysTaken(state, recording)
        ? {}
        : { ...workOf(taken.jobId, state, traceparent), finished: [taken] }),
      ...freedBy(taken.jobId, taken, state),
      memory: recording.memory,
    }));
    if (committed === 'lease_lost') return { kind: 'lease_lost' };
    if (committed !== 'conflict' && committed !== 'unknown') {
      const expected = { kind: 'loaded' as const, version: change.version };
      const next = { state, version: change.version, lastSeq: committed.seq, expected };
      const { unrecorded: _, ...recorded } = run;
      return { kind: 'recorded', run: { ...recorded, loaded: next } };
    }
    const lostAt = committed === 'unknown' ? change.version : undefined;
    if (attempt >= ATTEMPTS) throw new Error(`${taken.jobId} changes faster than its worker can follow`);
    loaded = await deps.store.load(taken.jobId, jobFold);
    if (loaded.version === lostAt && recording.leadsTo.includes(loaded.state.phase)) {
      const { unrecorded: _, ...recorded } = run;
      return { kind: 'recorded', run: { ...recorded, loaded } };
    }
  }
}

/** What is recorded of a run; of one whose start no commit holds yet, that first. */
function decide({ unrecorded, taken, spec }: JobRun, recording: Recording, state: Job): Decision<JobEvent> {
  if (!unrecorded || jobIsRunning(state)) return recording.decide(state);
  const start = startJob(state, unrecorded.worker);
  if (!start.ok) return start;
  const meta = { at: unrecorded.at, correlation: spec.correlation, ...ownerOf(spec) };
  const stream = { streamId: taken.jobId, state, version: 0, expected: { kind: 'minted' as const } };
  const running = changeOf(meta, unrecorded.at, stream, jobFold, start.events).state.value as Job;
  const then = recording.decide(running);
  return then.ok ? { ok: true, events: [...start.events, ...then.events] } : then;
}

function staysTaken(state: Job, { keepsEntry = false }: Recording): boolean {
  return jobIsRunning(state) || (keepsEntry && state.phase === 'queued');
}

function runsOf(state: Job): number {
  return 'runs' in state ? state.runs : 0;
}

/**
 * Puts a work entry back behind a timer, with nothing said of the job: it waits for something other than its time.
 * `left`: nothing is known of what became of that; whoever looks at what is pending knows.
 */
export async function putBack(
  deps: JobDeps,
  taken: TakenJob & { readonly type: string; readonly traceparent?: string },
  wakeAt: Date,
): Promise<'put_back' | 'left'> {
  const { queue, priority, jobId, type, dueAt, lane, traceparent } = taken;
  const work = {
    ...{ queue, priority, jobId, type, dueAt, wakeAt: wakeAt.getTime() },
    ...(lane === undefined ? {} : { lane }),
    ...(traceparent === undefined ? {} : { traceparent }),
  };
  const committed = await commit(deps, taken, () => ({
    appends: [],
    timers: [work],
    finished: [taken],
    memory: 'completion',
  }));
  // Never asked for again: if it was done, the job may run by now, and a second timer would start it once more.
  return typeof committed === 'object' ? 'put_back' : 'left';
}

/** Whether the job can be run by this entry at all: it was not enqueued anew since, and has not succeeded. */
function isIts(taken: TakenJob, state: Job): state is Extract<Job, { spec: JobSpec }> {
  return 'spec' in state && state.dueAt === taken.dueAt;
}

/**
 * Removes the entry of a job for which nothing is left to do. The lane is freed if the job holds it by this entry. One
 * that was enqueued anew may hold it by another since; one that has begun since, or is to be tried again, holds it to its
 * own end, and a dead letter holds it on.
 */
async function finishEntry(deps: JobDeps, taken: TakenJob, state: Job): Promise<JobRecorded> {
  const { queue, lane, jobId, dueAt } = taken;
  const holds = holdsItsLane(state) && (state.phase !== 'queued' || isIts(taken, state));
  const committed = await commit(deps, taken, () => ({
    appends: [],
    finished: [taken],
    ...(lane === undefined || holds ? {} : { freed: [{ queue, lane, jobId, dueAt }] }),
    memory: 'completion',
  }));
  // An entry that stays would hold its lane, and nobody would look at it again: doing so twice does no harm.
  if (committed === 'unknown') throw new OutcomeUnknownError('a work entry may be there still');
  return { kind: committed === 'lease_lost' ? 'lease_lost' : 'finished' };
}

type Contents = Pick<
  Parameters<EventStore['commit']>[0],
  'appends' | 'work' | 'timers' | 'finished' | 'freed' | 'memory'
>;

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
