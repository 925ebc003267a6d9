import type { Decision } from '../../domain/decision.ts';
import type { JobEvent } from '../../domain/jobs/events.ts';
import { startJob } from '../../domain/jobs/runs.ts';
import { type Job, type JobSpec, jobFold, jobIsFinished, jobIsRunning } from '../../domain/jobs/state.ts';
import type { Loaded } from '../../eventstore/types.ts';
import { changeOf, encodeChange } from '../handle.ts';
import { freedBy } from '../keys.ts';
import { workOf } from '../work.ts';
import {
  commitTaken,
  commitTakenThen,
  finishEntry,
  isIts,
  type JobDeps,
  type TakenContents,
  type TakenJob,
  timeOf,
} from './taken.ts';

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

export type Recording = {
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

/** What a recording comes to, by the state that was loaded. */
type Planned =
  | {
      readonly kind: 'commit';
      readonly version: number;
      readonly state: Job;
      readonly contents: TakenContents;
    }
  /** There is nothing to write. */
  | { readonly kind: 'settled'; readonly recorded: JobRecorded }
  /** The job has ended, or is another's: its entry is to go. */
  | { readonly kind: 'over' };

/**
 * Commits what was decided; with it, the work entry goes as soon as the job does not run any more. Jobs come through here
 * by the ten thousands a second, and nearly all with the first attempt: it takes no more promises than it must.
 */
export function record(deps: JobDeps, run: JobRun, recording: Recording): Promise<JobRecorded> {
  const planned = plan(deps, run, recording, run.loaded);
  if (planned.kind !== 'commit') return withoutCommit(deps, run, planned, run.loaded.state);
  return commitTakenThen(deps, run.taken, planned.contents, (committed) => {
    if (committed === 'lease_lost') return { kind: 'lease_lost' };
    if (typeof committed === 'object') return recordedAs(run, planned, committed.seq);
    return recordAgain(deps, run, recording, committed === 'unknown' ? planned.version : undefined);
  });
}

/** @param lostAt the version that the last attempt would have led to, where its reply was lost */
async function recordAgain(
  deps: JobDeps,
  run: JobRun,
  recording: Recording,
  lostAt: number | undefined,
): Promise<JobRecorded> {
  for (let attempt = 2; attempt <= ATTEMPTS; attempt++) {
    const loaded = await deps.store.load(run.taken.jobId, jobFold);
    if (loaded.version === lostAt && recording.leadsTo.includes(loaded.state.phase)) {
      return { kind: 'recorded', run: asRecorded(run, loaded) };
    }
    const planned = plan(deps, run, recording, loaded);
    if (planned.kind !== 'commit') return withoutCommit(deps, run, planned, loaded.state);
    const committed = await commitTaken(deps, run.taken, planned.contents);
    if (committed === 'lease_lost') return { kind: 'lease_lost' };
    if (typeof committed === 'object') return recordedAs(run, planned, committed.seq);
    lostAt = committed === 'unknown' ? planned.version : undefined;
  }
  throw new Error(`${run.taken.jobId} changes faster than its worker can follow`);
}

function plan(deps: JobDeps, run: JobRun, recording: Recording, loaded: Loaded<Job>): Planned {
  const { taken } = run;
  if (!isIts(taken, loaded.state)) return { kind: 'over' };
  // Under one lease a job may be started again while a handler of its last run lingers on.
  if (loaded.state.runs !== runsOf(run.loaded.state)) return LOST;
  const decision = decide(run, recording, loaded.state);
  // By its entry a job that has not ended is yet to be run: only that of one that has ended may go.
  if (!decision.ok) return jobIsFinished(loaded.state) ? { kind: 'over' } : LOST;
  if (decision.events.length === 0) {
    return { kind: 'settled', recorded: { kind: 'recorded', run: { ...run, loaded } } };
  }
  const context = { actor: ACTOR, correlation: run.spec.correlation, ...ownerOf(run.spec) };
  const stream = { streamId: taken.jobId, ...loaded };
  const at = recording.at ?? timeOf(deps, taken);
  const folded = changeOf(context, at, stream, jobFold, decision.events);
  const change = run.unrecorded ? { ...folded, begunAt: run.unrecorded.at } : folded;
  const state = change.state.value as Job;
  const contents: TakenContents = (traceparent) => ({
    appends: [encodeChange(deps, { ...context, ...(traceparent ? { traceparent } : {}) }, change)],
    ...(staysTaken(state, recording)
      ? {}
      : { ...workOf(taken.jobId, state, traceparent), finished: [taken] }),
    ...freedBy(taken.jobId, taken, state),
    memory: recording.memory,
  });
  return { kind: 'commit', version: change.version, state, contents };
}

const LOST: Planned = { kind: 'settled', recorded: { kind: 'lease_lost' } };

async function withoutCommit(
  deps: JobDeps,
  { taken }: JobRun,
  planned: Exclude<Planned, { kind: 'commit' }>,
  state: Job,
): Promise<JobRecorded> {
  return planned.kind === 'settled' ? planned.recorded : finishEntry(deps, taken, state);
}

function recordedAs(
  run: JobRun,
  { version, state }: Extract<Planned, { kind: 'commit' }>,
  lastSeq: number,
): JobRecorded {
  return {
    kind: 'recorded',
    run: asRecorded(run, { state, version, lastSeq, expected: { kind: 'loaded', version } }),
  };
}

/** The run as a commit has it now. Named one by one: what is left of an object is copied the slow way. */
function asRecorded({ taken, spec, attempt, turn, recovered, alone }: JobRun, loaded: Loaded<Job>): JobRun {
  return { taken, spec, attempt, turn, recovered, alone, loaded };
}

/** What is recorded of a run; of one whose start no commit holds yet, that first. */
function decide({ unrecorded, spec }: JobRun, recording: Recording, state: Job): Decision<JobEvent> {
  if (!unrecorded || jobIsRunning(state)) return recording.decide(state);
  const start = startJob(state, unrecorded.worker);
  if (!start.ok) return start;
  const meta = { at: unrecorded.at, correlation: spec.correlation, ...ownerOf(spec) };
  const running = start.events.reduce<Job>((job, event) => jobFold.evolve(job, { ...event, ...meta }), state);
  const then = recording.decide(running);
  return then.ok ? { ok: true, events: [...start.events, ...then.events] } : then;
}

function staysTaken(state: Job, { keepsEntry = false }: Recording): boolean {
  return jobIsRunning(state) || (keepsEntry && state.phase === 'queued');
}

function runsOf(state: Job): number {
  return 'runs' in state ? state.runs : 0;
}

function ownerOf({ owner }: JobSpec): { owner?: string } {
  return owner ? { owner } : {};
}
