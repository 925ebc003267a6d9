import { type JobId, partitionOf } from '../../domain/ids.ts';
import { isoOf } from '../../domain/iso.ts';
import { holdsItsLane, type Job, type JobSpec } from '../../domain/jobs/state.ts';
import { type CommitOutcome, type EventStore, OutcomeUnknownError } from '../../eventstore/types.ts';
import type { CommandDeps } from '../handle.ts';

export type JobDeps = Pick<CommandDeps, 'now' | 'randomText' | 'traceCommit'> & {
  readonly store: Pick<EventStore, 'load' | 'loadKept' | 'commit'>;
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

/** Whether the job can be run by this entry at all: it was not enqueued anew since, and has not succeeded. */
export function isIts(taken: TakenJob, state: Job): state is Extract<Job, { spec: JobSpec }> {
  return 'spec' in state && state.dueAt === taken.dueAt;
}

/**
 * The time of what happens to a taken job, RFC 3339 UTC: never before it was due. The clocks of two processes differ by as
 * much as a round trip, and no history is to say that a job started before it was enqueued.
 */
export function timeOf(deps: Pick<JobDeps, 'now'>, taken: TakenJob): string {
  return isoOf(Math.max(deps.now().getTime(), taken.dueAt));
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
  const committed = await commitTaken(deps, taken, () => ({
    appends: [],
    timers: [work],
    finished: [taken],
    memory: 'completion',
  }));
  // Never asked for again: if it was done, the job may run by now, and a second timer would start it once more.
  return typeof committed === 'object' ? 'put_back' : 'left';
}

/**
 * Removes the entry of a job for which nothing is left to do. The lane is freed if the job holds it by this entry. One
 * that was enqueued anew may hold it by another since; one that has begun since, or is to be tried again, holds it to its
 * own end, and a dead letter holds it on.
 */
export async function finishEntry(
  deps: JobDeps,
  taken: TakenJob,
  state: Job,
): Promise<{ readonly kind: 'finished' | 'lease_lost' }> {
  const { queue, lane, jobId, dueAt } = taken;
  const holds = holdsItsLane(state) && (state.phase !== 'queued' || isIts(taken, state));
  const committed = await commitTaken(deps, taken, () => ({
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

/** What a commit holds; its events carry the trace that the commit is part of. */
export type TakenContents = (traceparent: string | undefined) => Contents;

type Committed = { readonly seq: number } | 'conflict' | 'lease_lost' | 'unknown';

/** A commit under the lease by which the entry was taken. `unknown`: its reply was lost. */
export function commitTaken(deps: JobDeps, taken: TakenJob, contents: TakenContents): Promise<Committed> {
  return commitTakenThen(deps, taken, contents, (committed) => committed);
}

/** The same; `then` makes of it what is wanted, without a promise of its own. */
export function commitTakenThen<R>(
  deps: JobDeps,
  taken: TakenJob,
  contents: TakenContents,
  then: (committed: Committed) => R | Promise<R>,
): Promise<R> {
  const partition = partitionOf(taken.jobId);
  return deps
    .traceCommit(partition, (traceparent) =>
      deps.store.commit({ partition, lease: taken.lease, ...contents(traceparent) }),
    )
    .then(
      (outcome) => then(committedAs(outcome)),
      (error: unknown) => then(lostOrThrown(error)),
    );
}

function committedAs(outcome: CommitOutcome): Committed {
  if (outcome.kind === 'committed' || outcome.kind === 'replayed') return outcome.position;
  if (outcome.kind === 'claim_reused') throw new Error('a commit of a worker makes no claim');
  return outcome.kind;
}

function lostOrThrown(error: unknown): Committed {
  if (error instanceof OutcomeUnknownError) return 'unknown';
  throw error;
}
