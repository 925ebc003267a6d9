import type { Selectable } from 'kysely';
import type { Recorded } from '../../domain/event.ts';
import {
  type DeadLetterReason,
  everyJobEvent,
  type JobEvent,
  type JobPriority,
} from '../../domain/jobs/events.ts';
import { traceIdOf } from '../../telemetry/tracing.ts';
import type { Projection } from '../projection.ts';
import { notYetRun, type Run, runAfter } from '../run.ts';

export type JobsTable = Run & {
  id: string;
  owner: string | null;
  type: string;
  queue: string;
  priority: JobPriority;
  ordering_key: string | null;
  /** What stands for owner, queue and ordering key. */
  lane: string | null;
  /** What it is to the others of its lane: it waits for its turn, or keeps them waiting as a dead letter. */
  in_lane: 'waits' | 'dead' | null;
  concurrency_key: string | null;
  callback_url: string | null;
  /** When it became due, or will. */
  due_at: Date;
  /** It waits for a time, not for a worker. */
  on_timer: boolean;
  /** Who ran it last. */
  worker: string | null;
  /** JSON text. */
  result: string | null;
  /** Why it is a dead letter; gone once it is not. */
  reason: DeadLetterReason | null;
  /** A dead letter that was given up. */
  discarded: boolean;
  /** Of the commit that enqueued it. */
  trace_id: string | null;
  version: number;
  created_at: Date;
};

export type JobRow = Selectable<JobsTable>;

export const projection: Projection<JobRow, JobEvent> = {
  name: 'jobs',
  version: 2,
  table: 'jobs_v2',
  columns: {
    id: 'text',
    owner: 'text',
    type: 'text',
    queue: 'text',
    priority: 'text',
    ordering_key: 'text',
    lane: 'text',
    in_lane: 'text',
    concurrency_key: 'text',
    callback_url: 'text',
    status: 'text',
    due_at: 'timestamptz',
    on_timer: 'boolean',
    attempts: 'int',
    progress: 'double precision',
    worker: 'text',
    result: 'text',
    error: 'text',
    reason: 'text',
    discarded: 'boolean',
    trace_id: 'text',
    version: 'int',
    created_at: 'timestamptz',
    started_at: 'timestamptz',
    finished_at: 'timestamptz',
  },
  handles: everyJobEvent,
  key: (event) => event.streamId,
  reduce: jobAfter,
};

/** A job's row after another event of it. */
export function jobAfter(row: JobRow | undefined, event: Recorded<JobEvent>): JobRow {
  if (event.type === 'JobEnqueued') return enqueued(event);
  if (!row) throw new Error(`${event.type} of a job that was never enqueued`);
  return standing({ ...row, ...runAfter(row, event), ...changed(event), version: event.version });
}

function enqueued({ data, ...event }: Extract<Recorded<JobEvent>, { type: 'JobEnqueued' }>): JobRow {
  return standing({
    ...notYetRun,
    status: data.runAt === undefined ? 'queued' : 'scheduled',
    id: event.streamId,
    owner: event.meta.owner ?? null,
    type: data.type,
    queue: data.queue,
    priority: data.priority,
    ordering_key: data.orderingKey ?? null,
    lane: data.lane ?? null,
    in_lane: null,
    concurrency_key: data.concurrencyKey ?? null,
    callback_url: data.callbackUrl ?? null,
    due_at: new Date(data.runAt ?? event.meta.at),
    on_timer: false,
    worker: null,
    result: null,
    reason: null,
    discarded: false,
    trace_id: traceIdOf(event.meta.traceparent) ?? null,
    version: event.version,
    created_at: new Date(event.meta.at),
  });
}

/** What an event says of a job besides how far its run is. */
function changed({ type, data }: Recorded<JobEvent>): Partial<JobRow> {
  switch (type) {
    case 'JobStarted':
      return { worker: data.worker };
    case 'JobSnoozed':
      return { due_at: new Date(data.until) };
    case 'JobAttemptFailed':
      return {
        due_at: new Date(data.retryAt),
        ...(data.worker === undefined ? {} : { worker: data.worker }),
      };
    case 'JobCompleted':
      return { result: JSON.stringify(data.result) };
    case 'JobDeadLettered':
      return {
        reason: data.reason ?? 'attempts',
        discarded: false,
        ...(data.worker === undefined ? {} : { worker: data.worker }),
      };
    case 'JobDiscarded':
      return { discarded: true };
    case 'JobRetried':
      return { due_at: new Date(data.dueAt), reason: null, discarded: false };
    default:
      return {};
  }
}

/** Columns that follow from the others, for the indexes' sake. */
function standing(row: JobRow): JobRow {
  const { status, lane, discarded } = row;
  const waits = status === 'queued' || status === 'scheduled';
  const dead = status === 'failed' && !discarded;
  return {
    ...row,
    in_lane: lane === null ? null : waits ? 'waits' : dead ? 'dead' : null,
    on_timer: status === 'scheduled' || status === 'retrying',
  };
}
