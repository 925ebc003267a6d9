import type { JobId } from '../domain/ids.ts';
import type { Job } from '../domain/jobs/state.ts';
import type { Work } from '../eventstore/types.ts';

/** Where a job goes by a commit that leaves it in `state`: to its lane, to a timer until it is due, or nowhere. */
export function workOf(
  jobId: JobId,
  state: Job,
  traceparent?: string,
): { work?: readonly Work[]; timers?: readonly Work[] } {
  if (!('spec' in state)) return {};
  const { queue, priority, type, lane } = state.spec;
  const { dueAt } = state;
  const keyed = lane === undefined ? {} : { lane };
  const work = [{ queue, priority, jobId, type, dueAt, ...keyed, ...(traceparent ? { traceparent } : {}) }];
  if (state.phase === 'queued') return { work };
  if (state.phase === 'scheduled' || state.phase === 'retrying') return { timers: work };
  return {};
}
