import type { Kysely, Selectable } from 'kysely';
import type { RawEvent, Recorded } from '../domain/event.ts';
import {
  EXPORT_JOB,
  type ExportEvent,
  type ExportFormat,
  type ExportResult,
  isExportProgress,
  isExportResult,
} from '../domain/exports.ts';
import { exportOfJob, jobOfExport, kindOf, parseStreamId } from '../domain/ids.ts';
import { everyJobEvent, type JobEvent } from '../domain/jobs/events.ts';
import { traceIdOf } from '../telemetry/tracing.ts';
import type { Database } from './database.ts';
import { type Listing, present, within } from './listing.ts';
import type { Projection } from './projection.ts';
import { type JobStatus, notYetRun, type Run, runAfter } from './run.ts';

export type ExportsTable = Run & {
  id: string;
  owner: string | null;
  /** Null until the request itself was read: one commit writes it and its job's first event, in any order. */
  dataset: 'events' | null;
  format: ExportFormat | null;
  row_count: number;
  bytes: number;
  blob: string | null;
  file_name: string | null;
  sha256: string | null;
  trace_id: string | null;
  /** Counts the events of the request and of its job: whatever changes the row changes its ETag. */
  version: number;
  created_at: Date;
};

type ExportRow = Selectable<ExportsTable>;
type Event = ExportEvent | JobEvent;

export const projection: Projection<ExportRow, Event> = {
  name: 'exports',
  version: 1,
  table: 'exports_v1',
  columns: {
    id: 'text',
    owner: 'text',
    dataset: 'text',
    format: 'text',
    status: 'text',
    progress: 'double precision',
    attempts: 'int',
    row_count: 'bigint',
    bytes: 'bigint',
    blob: 'text',
    file_name: 'text',
    sha256: 'text',
    error: 'text',
    trace_id: 'text',
    version: 'int',
    created_at: 'timestamptz',
    started_at: 'timestamptz',
    finished_at: 'timestamptz',
  },
  handles: { ExportRequested: true, ...everyJobEvent },
  key(event) {
    if (event.type === 'ExportRequested') return event.streamId;
    return event.data.type === EXPORT_JOB ? exportOfJob(event.streamId) : undefined;
  },
  mayConcern: ({ type, data }) =>
    type === 'ExportRequested' || !data.startsWith(OF_A_JOB) || data.startsWith(OF_AN_EXPORT),
  keyOfUndecodable,
  streamsOf(key) {
    const id = parseStreamId(key, 'exp');
    return id ? [id, jobOfExport(id)] : [];
  },
  reduce(row, event) {
    if (event.type === 'ExportRequested') return requested(row, event);
    if (event.type === 'JobEnqueued') return row ? counted(row) : begun(event);
    if (!row) throw new Error(`${event.type} of an export that nobody requested`);
    return counted({ ...row, ...runAfter(row, event), ...written(row, event) });
  },
};

/** How a job's events begin: with its type. */
const OF_A_JOB = '{"type":"';
const OF_AN_EXPORT = `${OF_A_JOB}${EXPORT_JOB}"`;

/** A job's event that can't be read may be an export's: better to park one row too many than to show it wrong. */
function keyOfUndecodable(raw: RawEvent): string | undefined {
  if (kindOf(raw.streamId) === 'exp') return raw.streamId;
  try {
    const data: unknown = JSON.parse(raw.data);
    const named = typeof data === 'object' && data !== null && 'type' in data ? data.type : undefined;
    if (typeof named === 'string' && named !== EXPORT_JOB) return undefined;
  } catch {
    // Not even JSON: it stays under suspicion.
  }
  return exportOfJob(raw.streamId);
}

function counted(row: ExportRow): ExportRow {
  return { ...row, version: row.version + 1 };
}

function begun(event: Recorded<Event>): ExportRow {
  return {
    ...notYetRun,
    id: event.type === 'ExportRequested' ? event.streamId : exportOfJob(event.streamId),
    owner: event.meta.owner ?? null,
    dataset: null,
    format: null,
    row_count: 0,
    bytes: 0,
    blob: null,
    file_name: null,
    sha256: null,
    trace_id: traceIdOf(event.meta.traceparent) ?? null,
    version: 1,
    created_at: new Date(event.meta.at),
  };
}

/** Both first events are of one commit, hence of one owner, time and trace: their order makes no difference. */
function requested(row: ExportRow | undefined, event: Recorded<ExportEvent>): ExportRow {
  const { dataset, format } = event.data;
  return { ...(row ? counted(row) : begun(event)), dataset, format };
}

/** What has been written so far; each start begins the file anew. */
function written(row: ExportRow, event: Recorded<JobEvent>): Partial<ExportRow> {
  if (event.type === 'JobStarted') return { row_count: 0, bytes: 0 };
  if (event.type === 'JobProgressed' && isExportProgress(event.data.detail)) {
    const { rows, bytes } = event.data.detail;
    return { row_count: rows, bytes };
  }
  if (event.type !== 'JobCompleted') return {};
  const { result } = event.data;
  if (!isExportResult(result)) throw new Error(`the result of export ${row.id} is not an export's`);
  return {
    row_count: result.rows,
    bytes: result.bytes,
    blob: result.blob,
    file_name: result.fileName,
    sha256: result.sha256,
  };
}

/** An export as its owner sees it. Times are RFC 3339 with milliseconds; `progress` is percent. */
export type ExportView = {
  readonly id: string;
  /** The account whose export it is; absent for the installation's own. */
  readonly owner?: string;
  readonly dataset: 'events';
  readonly format: ExportFormat;
  readonly status: JobStatus;
  readonly progress: number;
  readonly attempts: number;
  readonly rows: number;
  readonly bytes: number;
  /** The file, once there is one. `blob` is its key in the blob store, and not for the outside. */
  readonly file?: Pick<ExportResult, 'blob' | 'fileName' | 'sha256'>;
  readonly error?: unknown;
  readonly createdAt: string;
  readonly startedAt?: string;
  readonly finishedAt?: string;
  readonly traceId?: string;
  readonly version: number;
};

/** An export; with `owner`, only if it is theirs. */
export async function findExport(
  db: Kysely<Database>,
  id: string,
  owner?: string,
): Promise<ExportView | undefined> {
  let query = db.selectFrom('exports_v1').selectAll().where('id', '=', id);
  if (owner !== undefined) query = query.where('owner', '=', owner);
  const row = await query.executeTakeFirst();
  return row && view(row);
}

/** Newest first. */
export async function listExports(db: Kysely<Database>, listing: Listing<JobStatus>): Promise<ExportView[]> {
  const rows = await db
    .selectFrom('exports_v1')
    .selectAll()
    .where('dataset', 'is not', null)
    .where(within(listing))
    .orderBy('created_at', 'desc')
    .orderBy('id', 'desc')
    .limit(listing.limit)
    .execute();
  return rows.flatMap((row) => view(row) ?? []);
}

/** Undefined while the request itself has not been read. */
function view(row: ExportRow): ExportView | undefined {
  const { dataset, format, blob, file_name: fileName, sha256 } = row;
  if (dataset === null || format === null) return undefined;
  return {
    id: row.id,
    ...(row.owner === null ? {} : { owner: row.owner }),
    dataset,
    format,
    status: row.status,
    progress: row.progress,
    attempts: row.attempts,
    rows: row.row_count,
    bytes: row.bytes,
    ...(blob !== null && fileName !== null && sha256 !== null ? { file: { blob, fileName, sha256 } } : {}),
    ...present(row),
    createdAt: row.created_at.toISOString(),
    ...(row.trace_id === null ? {} : { traceId: row.trace_id }),
    version: row.version,
  };
}
