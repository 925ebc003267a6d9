import type { Static } from 'typebox';
import type { Fold } from '../decision.ts';
import type { FoldMeta } from '../event.ts';
import type { JobEnqueued, JobEvent } from './events.ts';
import { readJob, writeJob } from './kept.ts';

/** What was asked for, by whom, and in the course of what. */
export type JobSpec = Static<typeof JobEnqueued> & {
  enqueuedAt: string;
  owner?: string;
  correlation: string;
};

/** What is kept of a job for as long as it may run, or be retried. */
export type KeptJob = {
  readonly spec: JobSpec;
  /** Attempts begun, over its whole life. */
  readonly attempts: number;
  /** Runs begun, over its whole life, recoveries too: only the last of them may say anything of it. */
  readonly runs: number;
  /** Attempts before it was last retried by hand: they don't count against `maxAttempts`. */
  readonly before: number;
  /**
   * When it became due, ms since 1970; another each time that it is enqueued. It names the one work entry, or timer,
   * that may run the job: an entry of another time was left behind by a cancellation.
   */
  readonly dueAt: number;
  /** A run of it ended without a word: until one has ended by itself, it runs in a process of its own. */
  readonly suspect: boolean;
  /** Runs in a process of its own that ended without a word, since it was enqueued or retried by hand. */
  readonly takedowns: number;
};

export type Job =
  | { readonly phase: 'none' }
  /** `scheduled` and `retrying` wait for a timer; `cancelling` runs still, and is to end. */
  | (KeptJob & { readonly phase: 'scheduled' | 'queued' | 'retrying' | 'cancelled' })
  /** `alone`: in a process of its own. */
  | (KeptJob & { readonly phase: 'running' | 'cancelling'; readonly alone: boolean })
  /** A dead letter; once discarded, nothing waits behind it any more. */
  | (KeptJob & { readonly phase: 'failed'; readonly discarded: boolean })
  | { readonly phase: 'succeeded'; readonly attempts: number; readonly owner?: string };

export const jobFold: Fold<Job, JobEvent & FoldMeta> = {
  fold: 6,
  initial: { phase: 'none' },
  kept: { write: writeJob, read: readJob },
  evolve(state, event) {
    if (event.type === 'JobEnqueued') return enqueued(event);
    if (!('spec' in state)) return state;
    const kept = keptOf(state);
    switch (event.type) {
      case 'JobStarted': {
        const { attempt, recovered, alone = false } = event.data;
        const tookDown = recovered && 'alone' in state && state.alone;
        return {
          ...kept,
          phase: 'running',
          alone,
          attempts: attempt,
          runs: kept.runs + 1,
          suspect: kept.suspect || recovered,
          takedowns: kept.takedowns + (tookDown ? 1 : 0),
        };
      }
      case 'JobProgressed':
        return state;
      case 'JobInterrupted':
        return { ...kept, phase: 'queued', attempts: event.data.attempt - 1 };
      case 'JobSnoozed': {
        const attempts = event.data.attempt - 1;
        return { ...kept, phase: 'scheduled', attempts, suspect: false, dueAt: Date.parse(event.data.until) };
      }
      case 'JobAttemptFailed':
        return {
          ...kept,
          phase: 'retrying',
          suspect: wasKilled(kept, event.data),
          dueAt: Date.parse(event.data.retryAt),
        };
      case 'JobCompleted': {
        const { owner } = kept.spec;
        return { phase: 'succeeded', attempts: event.data.attempt, ...(owner ? { owner } : {}) };
      }
      case 'JobDeadLettered':
        return { ...kept, phase: 'failed', discarded: false, attempts: event.data.attempt };
      case 'JobDiscarded':
        return { ...kept, phase: 'failed', discarded: true };
      case 'JobCancelRequested':
        return { ...kept, phase: 'cancelling', alone: 'alone' in state && state.alone };
      case 'JobCancelled':
        return { ...kept, phase: 'cancelled' };
      case 'JobRetried':
        return {
          ...kept,
          phase: 'queued',
          before: kept.attempts,
          dueAt: Date.parse(event.data.dueAt),
          suspect: false,
          takedowns: 0,
        };
    }
  },
};

/** In a process of its own it did not end when its time was up: among others it might hang a worker again. */
function wasKilled({ suspect }: KeptJob, { ignoredAbort = false }: { ignoredAbort?: boolean }): boolean {
  return suspect && ignoredAbort;
}

function keptOf({ spec, attempts, runs, before, dueAt, suspect, takedowns }: KeptJob): KeptJob {
  return { spec, attempts, runs, before, dueAt, suspect, takedowns };
}

function enqueued({ data, ...meta }: Extract<JobEvent, { type: 'JobEnqueued' }> & FoldMeta): Job {
  const { owner, at, correlation } = meta;
  return {
    phase: data.runAt === undefined ? 'queued' : 'scheduled',
    spec: { ...data, enqueuedAt: at, ...(owner ? { owner } : {}), correlation },
    attempts: 0,
    runs: 0,
    before: 0,
    dueAt: Date.parse(data.runAt ?? at),
    suspect: false,
    takedowns: 0,
  };
}

/** Nothing more happens to it by itself: its state may leave Redis once the ledger has it. */
export function jobIsFinished(
  job: Job,
): job is Extract<Job, { phase: 'succeeded' | 'failed' | 'cancelled' }> {
  return job.phase === 'succeeded' || job.phase === 'failed' || job.phase === 'cancelled';
}

/** Its worker has it: whoever wants it to end has to ask. */
export function jobIsRunning(job: Job): job is Extract<Job, { phase: 'running' | 'cancelling' }> {
  return job.phase === 'running' || job.phase === 'cancelling';
}

/** Its ordering key is held: it runs, is to be tried again, or is a dead letter that nobody gave up. */
export function holdsItsLane(job: Job): boolean {
  return job.phase !== 'none' && job.phase !== 'succeeded' && job.phase !== 'cancelled' && !isDiscarded(job);
}

function isDiscarded(job: Job): boolean {
  return job.phase === 'failed' && job.discarded;
}

/** The account that it belongs to. Undefined: the installation's own, or there is no such job. */
export function ownerOfJob(state: Job): string | undefined {
  return 'spec' in state ? state.spec.owner : state.phase === 'succeeded' ? state.owner : undefined;
}
