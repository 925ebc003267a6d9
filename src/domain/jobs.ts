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

export type JobEvent =
  | { type: 'JobEnqueued'; data: Static<typeof JobEnqueued> }
  | { type: 'JobStarted'; data: Static<typeof JobStarted> }
  | { type: 'JobProgressed'; data: Static<typeof JobProgressed> }
  | { type: 'JobCompleted'; data: Static<typeof JobCompleted> }
  | { type: 'JobAttemptFailed'; data: Static<typeof JobAttemptFailed> }
  | { type: 'JobDeadLettered'; data: Static<typeof JobDeadLettered> };

/** What was asked for, by whom, and in the course of what. */
export type JobSpec = Static<typeof JobEnqueued> & {
  enqueuedAt: string;
  owner?: string;
  correlation: string;
};

export type Job =
  | { phase: 'none' }
  | { phase: 'queued' | 'retrying'; spec: JobSpec; attempts: number }
  | { phase: 'running'; spec: JobSpec; attempts: number }
  | { phase: 'succeeded' | 'failed'; attempts: number };

export const jobFold: Fold<Job, JobEvent & FoldMeta> = {
  fold: 1,
  initial: { phase: 'none' },
  evolve(state, event) {
    switch (event.type) {
      case 'JobEnqueued':
        return {
          phase: 'queued',
          spec: {
            ...event.data,
            enqueuedAt: event.at,
            ...(event.owner ? { owner: event.owner } : {}),
            correlation: event.correlation,
          },
          attempts: 0,
        };
      case 'JobStarted':
        return 'spec' in state ? { phase: 'running', spec: state.spec, attempts: event.data.attempt } : state;
      case 'JobProgressed':
        return state;
      case 'JobAttemptFailed':
        return 'spec' in state ? { phase: 'retrying', spec: state.spec, attempts: state.attempts } : state;
      case 'JobCompleted':
        return { phase: 'succeeded', attempts: event.data.attempt };
      case 'JobDeadLettered':
        return { phase: 'failed', attempts: event.data.attempt };
    }
  },
};

/** A finished job changes no more: its state may leave Redis once the ledger has it. */
export function jobIsFinished(state: Job): boolean {
  return state.phase === 'succeeded' || state.phase === 'failed';
}

export function enqueueJob(state: Job, data: Static<typeof JobEnqueued>): Decision<JobEvent> {
  if (state.phase !== 'none') return accept();
  return accept({ type: 'JobEnqueued', data });
}

const finished = () => refuse('job_finished', 'The job has ended; its result stands.');

/** Starts a run. A job found running lost its worker: the same attempt begins again, as a recovery. */
export function startJob(state: Job, worker: string): Decision<JobEvent> {
  if (!('spec' in state)) return finished();
  const recovered = state.phase === 'running';
  const attempt = recovered ? state.attempts : state.attempts + 1;
  return accept({ type: 'JobStarted', data: { type: state.spec.type, attempt, worker, recovered } });
}

export function progressJob(state: Job, progress: number, detail?: unknown): Decision<JobEvent> {
  if (state.phase !== 'running') return finished();
  const data = { type: state.spec.type, progress: Math.min(100, Math.max(0, progress)) };
  return accept({ type: 'JobProgressed', data: detail === undefined ? data : { ...data, detail } });
}

export function completeJob(state: Job, result: unknown): Decision<JobEvent> {
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
  if (state.phase !== 'running') return finished();
  const { type, maxAttempts } = state.spec;
  const attempt = state.attempts;
  if (input.final || attempt >= maxAttempts) {
    return accept({ type: 'JobDeadLettered', data: { type, attempt, error: input.error } });
  }
  return accept({
    type: 'JobAttemptFailed',
    data: { type, attempt, error: input.error, retryAt: input.retryAt },
  });
}
