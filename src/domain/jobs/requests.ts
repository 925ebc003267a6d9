import type { Static } from 'typebox';
import { accept, type Decision, refuse } from '../decision.ts';
import type { JobEnqueued, JobEvent } from './events.ts';
import { cancelled, dueAgain } from './runs.ts';
import { type Job, jobIsFinished } from './state.ts';

export function enqueueJob(state: Job, data: Static<typeof JobEnqueued>): Decision<JobEvent> {
  if (state.phase !== 'none') return accept();
  return accept({ type: 'JobEnqueued', data });
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

/** Gives a dead letter up, so that what waits behind it goes on. Doing so again changes nothing. */
export function discardJob(state: Job): Decision<JobEvent> {
  if (state.phase !== 'failed') {
    return refuse('job_not_dead', `Only a dead letter can be discarded; this job is ${state.phase}.`);
  }
  if (state.discarded) return accept();
  return accept({ type: 'JobDiscarded', data: { type: state.spec.type } });
}
