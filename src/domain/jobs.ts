import { type Static, Type } from 'typebox';
import { accept, type Decision, type Fold, refuse } from './decision.ts';
import type { FoldMeta } from './event.ts';

export const JobPriority = Type.Enum(['high', 'normal', 'low']);
export type JobPriority = Static<typeof JobPriority>;

/** Queues this code knows. Stored in keys and events: identifiers for life. */
export const JobQueue = Type.Enum(['default', 'exports']);
export type JobQueue = Static<typeof JobQueue>;

const TypeName = Type.String({ pattern: '^[a-z][a-z0-9.-]{0,63}$', maxLength: 64 });
const Json = Type.Unknown();
const Failure = Type.Object({
  name: Type.String({ maxLength: 200 }),
  message: Type.String({ maxLength: 4000 }),
  stack: Type.Optional(Type.String({ maxLength: 8000 })),
});
export type Failure = Static<typeof Failure>;

/**
 * Every job event carries the job's type, so that a reader can leave out what it has no use for without
 * looking the job up.
 */
export const JobEnqueued = Type.Object({
  type: TypeName,
  payload: Json,
  queue: JobQueue,
  priority: JobPriority,
  maxAttempts: Type.Integer({ minimum: 1, maximum: 100 }),
  timeoutSeconds: Type.Integer({ minimum: 1, maximum: 86_400 }),
  /** When it is to be run, RFC 3339 UTC. Absent: at once. */
  runAt: Type.Optional(Type.String({ maxLength: 30 })),
});
export const JobStarted = Type.Object({
  type: TypeName,
  attempt: Type.Integer({ minimum: 1 }),
  worker: Type.String({ maxLength: 200 }),
  /** The run before this one ended without a word (its worker died): it is no attempt of its own. */
  recovered: Type.Boolean(),
});
export const JobProgressed = Type.Object({
  type: TypeName,
  /** Percent done, 0 to 100. */
  progress: Type.Number({ minimum: 0, maximum: 100 }),
  detail: Type.Optional(Json),
});
export const JobCompleted = Type.Object({
  type: TypeName,
  attempt: Type.Integer({ minimum: 1 }),
  result: Json,
});
export const JobAttemptFailed = Type.Object({
  type: TypeName,
  attempt: Type.Integer({ minimum: 1 }),
  error: Failure,
  retryAt: Type.String({ maxLength: 30 }),
});
export const JobDeadLettered = Type.Object({
  type: TypeName,
  attempt: Type.Integer({ minimum: 1 }),
  error: Failure,
});
/** Somebody wants a running job to end: its worker stops it, and says so with `JobCancelled`. */
export const JobCancelRequested = Type.Object({ type: TypeName });
export const JobCancelled = Type.Object({
  type: TypeName,
  /** Attempts begun until then. */
  attempts: Type.Integer({ minimum: 0 }),
});
/** A job that had failed, or was cancelled, is to be run again, with all of its attempts. */
export const JobRetried = Type.Object({
  type: TypeName,
  /** Attempts begun until then: the next one has the next number. */
  attempts: Type.Integer({ minimum: 0 }),
  /** When it is due, RFC 3339 UTC. */
  dueAt: Type.String({ maxLength: 30 }),
});

export type JobEvent =
  | { type: 'JobEnqueued'; data: Static<typeof JobEnqueued> }
  | { type: 'JobStarted'; data: Static<typeof JobStarted> }
  | { type: 'JobProgressed'; data: Static<typeof JobProgressed> }
  | { type: 'JobCompleted'; data: Static<typeof JobCompleted> }
  | { type: 'JobAttemptFailed'; data: Static<typeof JobAttemptFailed> }
  | { type: 'JobDeadLettered'; data: Static<typeof JobDeadLettered> }
  | { type: 'JobCancelRequested'; data: Static<typeof JobCancelRequested> }
  | { type: 'JobCancelled'; data: Static<typeof JobCancelled> }
  | { type: 'JobRetried'; data: Static<typeof JobRetried> };

/** What was asked for, by whom, and in the course of what. */
export type JobSpec = Static<typeof JobEnqueued> & {
  enqueuedAt: string;
  owner?: string;
  correlation: string;
};

/** What is kept of a job for as long as it may run, or be retried. */
type Kept = {
  readonly spec: JobSpec;
  /** Attempts begun, over its whole life. */
  readonly attempts: number;
  /** Of these, the ones before it was last retried by hand: they don't count against `maxAttempts`. */
  readonly before: number;
  /**
   * When it became due, ms since 1970; another each time that it is enqueued. It names the one work entry, or timer,
   * that may run the job: an entry of another time was left behind by a cancellation.
   */
  readonly dueAt: number;
};

export type Job =
  | { readonly phase: 'none' }
  /** `scheduled` and `retrying` wait for a timer; `cancelling` runs still, and is to end. */
  | (Kept & { readonly phase: 'scheduled' | 'queued' | 'running' | 'cancelling' | 'retrying' })
  | (Kept & { readonly phase: 'failed' | 'cancelled' })
  | { readonly phase: 'succeeded'; readonly attempts: number; readonly owner?: string };

export const jobFold: Fold<Job, JobEvent & FoldMeta> = {
  fold: 2,
  initial: { phase: 'none' },
  evolve(state, event) {
    if (event.type === 'JobEnqueued') return enqueued(event);
    if (!('spec' in state)) return state;
    switch (event.type) {
      case 'JobStarted':
        return { ...state, phase: 'running', attempts: event.data.attempt };
      case 'JobProgressed':
        return state;
      case 'JobAttemptFailed':
        return { ...state, phase: 'retrying', dueAt: Date.parse(event.data.retryAt) };
      case 'JobCompleted': {
        const { owner } = state.spec;
        return { phase: 'succeeded', attempts: event.data.attempt, ...(owner ? { owner } : {}) };
      }
      case 'JobDeadLettered':
        return { ...state, phase: 'failed', attempts: event.data.attempt };
      case 'JobCancelRequested':
        return { ...state, phase: 'cancelling' };
      case 'JobCancelled':
        return { ...state, phase: 'cancelled' };
      case 'JobRetried':
        return { ...state, phase: 'queued', before: state.attempts, dueAt: Date.parse(event.data.dueAt) };
    }
  },
};

function enqueued({ data, ...meta }: Extract<JobEvent, { type: 'JobEnqueued' }> & FoldMeta): Job {
  const { owner, at, correlation } = meta;
  return {
    phase: data.runAt === undefined ? 'queued' : 'scheduled',
    spec: { ...data, enqueuedAt: at, ...(owner ? { owner } : {}), correlation },
    attempts: 0,
    before: 0,
    dueAt: Date.parse(data.runAt ?? at),
  };
}

/** Nothing more happens to it by itself: its state may leave Redis once the ledger has it. */
export function jobIsFinished({ phase }: Job): boolean {
  return phase === 'succeeded' || phase === 'failed' || phase === 'cancelled';
}

/** Its worker has it: whoever wants it to end has to ask. */
export function jobIsRunning({ phase }: Job): boolean {
  return phase === 'running' || phase === 'cancelling';
}

/** The account that it belongs to. Undefined: the installation's own, or there is no such job. */
export function ownerOfJob(state: Job): string | undefined {
  return 'spec' in state ? state.spec.owner : state.phase === 'succeeded' ? state.owner : undefined;
}

export function enqueueJob(state: Job, data: Static<typeof JobEnqueued>): Decision<JobEvent> {
  if (state.phase !== 'none') return accept();
  return accept({ type: 'JobEnqueued', data });
}

const finished = () => refuse('job_finished', 'The job has ended; its result stands.');

function cancelled(state: Kept): Decision<JobEvent> {
  return accept({ type: 'JobCancelled', data: { type: state.spec.type, attempts: state.attempts } });
}

/**
 * Starts a run. A job found running lost its worker: the same attempt begins again, as a recovery. One that was to
 * be cancelled when its worker was lost is cancelled now.
 */
export function startJob(state: Job, worker: string): Decision<JobEvent> {
  if (!('spec' in state) || jobIsFinished(state)) return finished();
  if (state.phase === 'cancelling') return cancelled(state);
  const recovered = state.phase === 'running';
  const attempt = recovered ? state.attempts : state.attempts + 1;
  return accept({ type: 'JobStarted', data: { type: state.spec.type, attempt, worker, recovered } });
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
  return accept({ type: 'JobCompleted', data: { type: state.spec.type, attempt: state.attempts, result } });
}

/**
 * Records a failed attempt: a retry at `retryAt`, or the dead letters once `maxAttempts` is used up or the
 * error says that trying again is of no use.
 */
export function failJob(
  state: Job,
  input: { error: Failure; retryAt: string; final: boolean },
): Decision<JobEvent> {
  if (state.phase === 'cancelling') return cancelled(state);
  if (state.phase !== 'running') return finished();
  const { type, maxAttempts } = state.spec;
  const attempt = state.attempts;
  if (input.final || attempt - state.before >= maxAttempts) {
    return accept({ type: 'JobDeadLettered', data: { type, attempt, error: input.error } });
  }
  const retryAt = dueAgain(state, input.retryAt);
  return accept({ type: 'JobAttemptFailed', data: { type, attempt, error: input.error, retryAt } });
}

/** Ends a run that was told to end, whether or not the state that its worker knows says so yet. */
export function endCancelledJob(state: Job): Decision<JobEvent> {
  return state.phase === 'cancelling' || state.phase === 'running' ? cancelled(state) : finished();
}

/** Cancels what waits, at once; asks the worker of what runs. Refused for what has ended, cancelled or not. */
export function cancelJob(state: Job): Decision<JobEvent> {
  if (state.phase === 'cancelling') return accept();
  if (!('spec' in state) || jobIsFinished(state)) {
    return refuse('job_finished', `The job has ended: it is ${state.phase}.`);
  }
  if (state.phase !== 'running') return cancelled(state);
  return accept({ type: 'JobCancelRequested', data: { type: state.spec.type } });
}

/** Enqueues a job again that failed for good or was cancelled. @param now RFC 3339 UTC */
export function retryJob(state: Job, now: string): Decision<JobEvent> {
  if (!('spec' in state) || !jobIsFinished(state)) {
    return refuse(
      'job_not_retryable',
      `Only a job that failed or was cancelled can be retried; this one is ${state.phase === 'cancelling' ? 'running' : state.phase}.`,
    );
  }
  const { spec, attempts } = state;
  const dueAt = dueAgain(state, now);
  return accept({ type: 'JobRetried', data: { type: spec.type, attempts, dueAt } });
}

/**
 * When it is due next, at that time: never the same millisecond as before, or a work entry that a cancellation left
 * behind would pass for the new one. Older ones can't come up again: entries of a job are taken in their order.
 */
function dueAgain(state: Kept, time: string): string {
  const due = Date.parse(time);
  return new Date(due === state.dueAt ? due + 1 : due).toISOString();
}
