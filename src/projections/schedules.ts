import type { Kysely, Selectable } from 'kysely';
import type { MissedRuns, ScheduledJob, ScheduleEvent } from '../domain/schedules.ts';
import type { Database } from './database.ts';
import { type Before, within } from './listing.ts';
import type { Projection } from './projection.ts';

export type SchedulesTable = {
  id: string;
  owner: string | null;
  cron: string;
  timezone: string;
  missed: MissedRuns;
  /** JSON text. */
  job: string;
  next_run_at: Date | null;
  /** The tick of the last run. */
  last_run_at: Date | null;
  last_job_id: string | null;
  deleted: boolean;
  version: number;
  created_at: Date;
};

type ScheduleRow = Selectable<SchedulesTable>;

export const projection: Projection<ScheduleRow, ScheduleEvent> = {
  name: 'schedules',
  version: 1,
  table: 'schedules_v1',
  columns: {
    id: 'text',
    owner: 'text',
    cron: 'text',
    timezone: 'text',
    missed: 'text',
    job: 'text',
    next_run_at: 'timestamptz',
    last_run_at: 'timestamptz',
    last_job_id: 'text',
    deleted: 'boolean',
    version: 'int',
    created_at: 'timestamptz',
  },
  handles: { ScheduleCreated: true, ScheduleTicked: true, ScheduleDeleted: true },
  key: (event) => event.streamId,
  reduce(row, event) {
    const { version } = event;
    if (event.type === 'ScheduleCreated') {
      const { cron, timezone, missed, job, next } = event.data;
      return {
        id: event.streamId,
        owner: event.meta.owner ?? null,
        cron,
        timezone,
        missed,
        job: JSON.stringify(job),
        next_run_at: new Date(next),
        last_run_at: null,
        last_job_id: null,
        deleted: false,
        version,
        created_at: new Date(event.meta.at),
      };
    }
    if (!row) throw new Error(`${event.type} of a schedule that was never created`);
    if (event.type === 'ScheduleDeleted') return { ...row, next_run_at: null, deleted: true, version };
    const { tick, jobId, next } = event.data;
    const ran = jobId === undefined ? {} : { last_run_at: new Date(tick), last_job_id: jobId };
    return { ...row, ...ran, next_run_at: next === undefined ? null : new Date(next), version };
  },
};

/** A schedule as its owner sees it. Times are RFC 3339 with milliseconds. */
export type ScheduleView = {
  readonly id: string;
  /** The account whose schedule it is; absent for the installation's own. */
  readonly owner?: string;
  readonly cron: string;
  readonly timezone: string;
  readonly missed: MissedRuns;
  /** What each run is, without what stands for its keys in Redis. */
  readonly job: Omit<ScheduledJob, 'lane' | 'slots'>;
  /** Absent: it never runs again. */
  readonly nextRunAt?: string;
  /** The time for which its last run was meant. */
  readonly lastRunAt?: string;
  readonly lastJobId?: string;
  readonly createdAt: string;
  readonly version: number;
};

/** A schedule that was not deleted; with `owner`, only if it is theirs. */
export async function findSchedule(
  db: Kysely<Database>,
  id: string,
  owner?: string,
): Promise<ScheduleView | undefined> {
  let query = db.selectFrom('schedules_v1').selectAll().where('id', '=', id).where('deleted', '=', false);
  if (owner !== undefined) query = query.where('owner', '=', owner);
  const row = await query.executeTakeFirst();
  return row && view(row);
}

/** Those that were not deleted, the newest first; with `owner`, theirs alone. */
export async function listSchedules(
  db: Kysely<Database>,
  listing: {
    readonly owner?: string | undefined;
    /** The last one of the page before. */
    readonly before?: Before | undefined;
    readonly limit: number;
  },
): Promise<ScheduleView[]> {
  const rows = await db
    .selectFrom('schedules_v1')
    .selectAll()
    .where('deleted', '=', false)
    .where(within(listing))
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(listing.limit)
    .execute();
  return rows.map(view);
}

function view(row: ScheduleRow): ScheduleView {
  // What the reducer wrote.
  const { lane: _, slots: __, ...job } = JSON.parse(row.job) as ScheduledJob;
  return {
    id: row.id,
    ...(row.owner === null ? {} : { owner: row.owner }),
    cron: row.cron,
    timezone: row.timezone,
    missed: row.missed,
    job,
    ...(row.next_run_at ? { nextRunAt: row.next_run_at.toISOString() } : {}),
    ...(row.last_run_at ? { lastRunAt: row.last_run_at.toISOString() } : {}),
    ...(row.last_job_id === null ? {} : { lastJobId: row.last_job_id }),
    createdAt: row.created_at.toISOString(),
    version: row.version,
  };
}
