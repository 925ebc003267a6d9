import { type JobId, parseStreamId } from '../domain/ids.ts';
import type { Work } from './types.ts';

/** Of all jobs with an ordering key: another would let a later one overtake. */
export const KEYED_PRIORITY = 'normal';

/**
 * The one field of a work entry. Each field of a stream's entry costs Redis and its readers about as much as the next, however
 * short it is, and scripts read, park and promote what is one text as it is.
 */
export const WORK_FIELD = 'w';

/** What a work entry says. */
export type ParsedWork = {
  readonly jobId: JobId;
  readonly type: string;
  /** In ms since 1970. */
  readonly dueAt: number;
  readonly lane?: string;
  readonly traceparent?: string;
};

/**
 * `<job id> <type> <due> <lane> <traceparent>`: a work entry, and an item of the lists of what is parked. Without a
 * lane it is `-`; the last may be empty.
 */
export function encodeWork(work: Omit<Work, 'queue' | 'priority'>): string {
  return `${work.jobId} ${workOfJob(work)}`;
}

/** Work as `timers:work` keeps it behind the seq that the commit adds: `<queue> <priority> <type> <due> <lane> <traceparent>`. */
export function encodeTimer(work: Work): string {
  return `${work.queue} ${work.priority} ${workOfJob(work)}`;
}

/** What follows the job's id in its work: `<type> <due> <lane> <traceparent>`. */
export function workOfJob({ type, dueAt, lane = '-', traceparent = '' }: Omit<Work, 'queue' | 'priority'>) {
  return `${type} ${dueAt} ${lane} ${traceparent}`;
}

/** Undefined: no such text. */
export function parseWork(text: string): ParsedWork | undefined {
  const [id = '', type, due, lane, traceparent] = text.split(' ');
  const jobId = parseStreamId(id, 'job');
  const dueAt = Number(due);
  if (!jobId || !type || !lane || !Number.isFinite(dueAt)) return undefined;
  return {
    jobId,
    type,
    dueAt,
    ...(lane === '-' ? {} : { lane }),
    ...(traceparent ? { traceparent } : {}),
  };
}
