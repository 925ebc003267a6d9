import type { Kysely, Selectable } from 'kysely';
import type { RawEvent, Recorded } from '../domain/event.ts';
import { codec, type RecordedEvent } from '../domain/events.ts';
import type { JobEvent } from '../domain/jobs/events.ts';
import { traceIdOf } from '../telemetry/tracing.ts';
import type { Database } from './database.ts';
import { type Listing, present, within } from './listing.ts';
import type { Projection } from './projection.ts';
import { type JobStatus, notYetRun, type Run, runAfter } from './run.ts';

export type JobsTable = Run & {
  id: string;
  owner: string | null;
  type: string;
  queue: string;
  /** JSON text. */
  result: string | null;
  /** Of the commit that enqueued it. */
  trace_id: string | null;
  version: number;
  created_at: Date;
};

type JobRow = Selectable<JobsTable>;

export const projection: Projection<JobRow, JobEvent> = {
  name: 'jobs',
  version: 1,
  table: 'jobs_v1',
  columns: {
    id: 'text',
    owner: 'text',
    type: 'text',
    queue: 'text',
    status: 'text',
    attempts: 'int',
    progress: 'double precision',
    result: 'text',
    error: 'text',
    trace_id: 'text',
    version: 'int',
    created_at: 'timestamptz',
    started_at: 'timestamptz',
    finished_at: 'timestamptz',
  },
  handles: {
    JobEnqueued: true,
    JobStarted: true,
    JobProgressed: true,
    JobInterrupted: true,
    JobSnoozed: true,
    JobAttemptFailed: true,
    JobCompleted: true,
    JobDeadLettered: true,
    JobDiscarded: true,
    JobCancelRequested: true,
    JobCancelled: true,
    JobRetried: true,
  },
  key: (event) => event.streamId,
  reduce(row, event) {
    if (event.type === 'JobEnqueued') {
      return {
        ...notYetRun,
        status: event.data.runAt === undefined ? 'queued' : 'scheduled',
        id: event.streamId,
        owner: event.meta.owner ?? null,
        type: event.data.type,
        queue: event.data.queue,
        result: null,
        trace_id: traceIdOf(event.meta.traceparent) ?? null,
        version: event.version,
        created_at: new Date(event.meta.at),
      };
    }
    if (!row) throw new Error(`${event.type} of a job that was never enqueued`);
    const result = event.type === 'JobCompleted' ? JSON.stringify(event.data.result) : row.result;
    return { ...row, ...runAfter(row, event), result, version: event.version };
  },
};

/** A job as its owner sees it. Times are RFC 3339 with milliseconds; `progress` is percent. */
export type JobView = {
  readonly id: string;
  readonly type: string;
  readonly queue: string;
  readonly status: JobStatus;
  readonly attempts: number;
  readonly progress: number;
  readonly result?: unknown;
  readonly error?: unknown;
  readonly createdAt: string;
  readonly startedAt?: string;
  readonly finishedAt?: string;
  readonly traceId?: string;
  readonly version: number;
};

export type JobListing = Listing<JobStatus> & {
  readonly type?: string | undefined;
  readonly queue?: string | undefined;
};

/** A job; with `owner`, only if it is theirs. */
export async function findJob(
  db: Kysely<Database>,
  id: string,
  owner?: string,
): Promise<JobView | undefined> {
  let query = db.selectFrom('jobs_v1').selectAll().where('id', '=', id);
  if (owner !== undefined) query = query.where('owner', '=', owner);
  const row = await query.executeTakeFirst();
  return row && view(row);
}

/** Newest first. */
export async function listJobs(db: Kysely<Database>, listing: JobListing): Promise<JobView[]> {
  let query = db.selectFrom('jobs_v1').selectAll().where(within(listing));
  if (listing.type !== undefined) query = query.where('type', '=', listing.type);
  if (listing.queue !== undefined) query = query.where('queue', '=', listing.queue);
  const rows = await query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(listing.limit).execute();
  return rows.map(view);
}

/** Where a look back ends: with the event of that version, or before the first one of a later time. */
export type AsOf = { readonly version: number } | { readonly at: Date };

/**
 * A job as it was, and whose it is: folded from its events, in order, by the reducer that makes its row. Undefined:
 * there was no such job yet, or there is no such version.
 */
export async function jobAsOf(
  history: AsyncIterable<RawEvent>,
  asOf: AsOf,
): Promise<{ readonly job: JobView; readonly owner?: string } | undefined> {
  let row: JobRow | undefined;
  for await (const raw of history) {
    const event = codec.decode(raw);
    if (!isJobEvent(event)) throw new Error(`${raw.type} is no event of a job`);
    if ('at' in asOf && Date.parse(event.meta.at) > asOf.at.getTime()) break;
    row = projection.reduce(row, event);
    if ('version' in asOf && event.version === asOf.version) break;
  }
  if (!row || ('version' in asOf && row.version !== asOf.version)) return undefined;
  return { job: view(row), ...(row.owner === null ? {} : { owner: row.owner }) };
}

function isJobEvent(event: RecordedEvent): event is Recorded<JobEvent> {
  return Object.hasOwn(projection.handles, event.type);
}

function view(row: JobRow): JobView {
  return {
    id: row.id,
    type: row.type,
    queue: row.queue,
    status: row.status,
    attempts: row.attempts,
    progress: row.progress,
    ...(row.result === null ? {} : { result: JSON.parse(row.result) as unknown }),
    ...present(row),
    createdAt: row.created_at.toISOString(),
    ...(row.trace_id === null ? {} : { traceId: row.trace_id }),
    version: row.version,
  };
}
