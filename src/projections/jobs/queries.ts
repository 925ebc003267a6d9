import { type Kysely, sql } from 'kysely';
import type { DeadLetterReason, JobPriority } from '../../domain/jobs/events.ts';
import type { Database } from '../database.ts';
import { type Listing, present, within } from '../listing.ts';
import type { JobStatus } from '../run.ts';
import type { JobRow } from './table.ts';

/** A job as its owner sees it. Times are RFC 3339 with milliseconds; `progress` is percent. */
export type JobView = {
  readonly id: string;
  /** The account whose job it is; absent for the installation's own. Content is sealed for it. */
  readonly owner?: string;
  readonly type: string;
  readonly queue: string;
  readonly priority: JobPriority;
  readonly orderingKey?: string;
  readonly concurrencyKey?: string;
  readonly callbackUrl?: string;
  readonly status: JobStatus;
  /** It waits behind a dead letter of its ordering key. */
  readonly parked?: true;
  readonly attempts: number;
  readonly progress: number;
  readonly result?: unknown;
  readonly error?: unknown;
  /** Why it is a dead letter. */
  readonly reason?: DeadLetterReason;
  /** A dead letter that was given up. */
  readonly discarded?: true;
  /** Who ran it last. */
  readonly worker?: string;
  readonly createdAt: string;
  /** When it became due, or will. */
  readonly dueAt: string;
  readonly startedAt?: string;
  readonly finishedAt?: string;
  readonly traceId?: string;
  readonly version: number;
};

export type JobListing = Listing<JobStatus> & {
  readonly type?: string | undefined;
  readonly queue?: string | undefined;
};

/** Of a row that waits though its time has come: whether what it waits for is a dead letter of its lane. */
const isParked = sql<boolean>`in_lane = 'waits' AND due_at <= now() AND EXISTS (
  SELECT FROM jobs_v2 AS dead
  WHERE dead.lane = jobs_v2.lane AND dead.queue = jobs_v2.queue AND dead.in_lane = 'dead'
)`.as('is_parked');

/** A job; with `owner`, only if it is theirs. */
export async function findJob(
  db: Kysely<Database>,
  id: string,
  owner?: string,
): Promise<JobView | undefined> {
  let query = db.selectFrom('jobs_v2').selectAll().select(isParked).where('id', '=', id);
  if (owner !== undefined) query = query.where('owner', '=', owner);
  const row = await query.executeTakeFirst();
  return row && view(row);
}

/** Newest first. */
export async function listJobs(db: Kysely<Database>, listing: JobListing): Promise<JobView[]> {
  let query = db.selectFrom('jobs_v2').selectAll().select(isParked).where(within(listing));
  if (listing.type !== undefined) query = query.where('type', '=', listing.type);
  if (listing.queue !== undefined) query = query.where('queue', '=', listing.queue);
  const rows = await query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(listing.limit).execute();
  return rows.map(view);
}

/** How many jobs of each of these lanes wait though their time has come; a lane without any is left out. */
export async function countWaiting(
  db: Kysely<Database>,
  lanes: readonly string[],
): Promise<ReadonlyMap<string, number>> {
  if (lanes.length === 0) return new Map();
  const rows = await db
    .selectFrom('jobs_v2')
    .select((eb) => ['lane', eb.fn.countAll<string>().as('waiting')])
    .where('lane', 'in', lanes)
    .where('in_lane', '=', 'waits')
    .where('due_at', '<=', sql<Date>`now()`)
    .groupBy('lane')
    .execute();
  return new Map(rows.map(({ lane, waiting }) => [lane ?? '', Number(waiting)]));
}

/** How many jobs of each queue wait for a time to come; a queue without any is left out. */
export async function countScheduled(db: Kysely<Database>): Promise<ReadonlyMap<string, number>> {
  const rows = await db
    .selectFrom('jobs_v2')
    .select((eb) => ['queue', eb.fn.countAll<string>().as('scheduled')])
    .where('on_timer', '=', true)
    .where('due_at', '>', sql<Date>`now()`)
    .groupBy('queue')
    .execute();
  return new Map(rows.map(({ queue, scheduled }) => [queue, Number(scheduled)]));
}

/** @param row as it is now, with `is_parked`; or as it once was, of which the others of its lane are not known */
export function view(row: JobRow & { readonly is_parked?: boolean | null }): JobView {
  return {
    id: row.id,
    ...(row.owner === null ? {} : { owner: row.owner }),
    type: row.type,
    queue: row.queue,
    priority: row.priority,
    ...(row.ordering_key === null ? {} : { orderingKey: row.ordering_key }),
    ...(row.concurrency_key === null ? {} : { concurrencyKey: row.concurrency_key }),
    ...(row.callback_url === null ? {} : { callbackUrl: row.callback_url }),
    status: row.status,
    ...(row.is_parked ? { parked: true } : {}),
    attempts: row.attempts,
    progress: row.progress,
    ...(row.result === null ? {} : { result: JSON.parse(row.result) as unknown }),
    ...present(row),
    ...(row.reason === null ? {} : { reason: row.reason }),
    ...(row.discarded ? { discarded: true } : {}),
    ...(row.worker === null ? {} : { worker: row.worker }),
    createdAt: row.created_at.toISOString(),
    dueAt: row.due_at.toISOString(),
    ...(row.trace_id === null ? {} : { traceId: row.trace_id }),
    version: row.version,
  };
}
