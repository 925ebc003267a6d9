import type { Recorded } from '../domain/event.ts';
import type { JobEvent } from '../domain/jobs/events.ts';

/** Part of the HTTP contract, and stored in rows: identifiers for life. `failed` is final. */
export const JOB_STATUSES = [
  'scheduled',
  'queued',
  'running',
  'retrying',
  'succeeded',
  'failed',
  'cancelled',
] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

/** How far a job has come: the columns that jobs, and what jobs carry out, have in common. */
export type Run = {
  status: JobStatus;
  /** Percent. */
  progress: number;
  attempts: number;
  /** The last failure, as JSON text; gone once an attempt succeeded. */
  error: string | null;
  started_at: Date | null;
  finished_at: Date | null;
};

export const notYetRun: Run = {
  status: 'queued',
  progress: 0,
  attempts: 0,
  error: null,
  started_at: null,
  finished_at: null,
};

/** `started_at` is the first start; progress begins anew with each. */
export function runAfter(run: Run, event: Recorded<JobEvent>): Run {
  const at = new Date(event.meta.at);
  switch (event.type) {
    case 'JobEnqueued':
    case 'JobCancelRequested':
    case 'JobDiscarded':
      return run;
    case 'JobStarted':
      return {
        ...run,
        status: 'running',
        attempts: event.data.attempt,
        progress: 0,
        started_at: run.started_at ?? at,
      };
    case 'JobProgressed':
      return { ...run, progress: event.data.progress };
    case 'JobInterrupted':
      return { ...run, status: 'queued', attempts: event.data.attempt - 1 };
    case 'JobSnoozed':
      return { ...run, status: 'scheduled', attempts: event.data.attempt - 1 };
    case 'JobAttemptFailed':
      return { ...run, status: 'retrying', error: JSON.stringify(event.data.error) };
    case 'JobCompleted':
      return { ...run, status: 'succeeded', progress: 100, error: null, finished_at: at };
    case 'JobDeadLettered':
      return { ...run, status: 'failed', error: JSON.stringify(event.data.error), finished_at: at };
    case 'JobCancelled':
      return { ...run, status: 'cancelled', finished_at: at };
    case 'JobRetried':
      return { ...run, status: 'queued', progress: 0, finished_at: null };
  }
}
