import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { accept, type Decision, type Fold } from './decision.ts';
import type { JobType } from './job-types.ts';

/** Name of the job type that carries an export out. Stored: an identifier for life. */
export const EXPORT_JOB = 'export';

export const ExportDataset = Type.Enum(['events']);
export const ExportFormat = Type.Enum(['ndjson', 'csv']);
export type ExportFormat = Static<typeof ExportFormat>;

export const ExportRequested = Type.Object({
  dataset: ExportDataset,
  format: ExportFormat,
  /** Whose events; `all` for an operator. */
  scope: Type.Enum(['own', 'all']),
  jobId: Type.String({ maxLength: 80 }),
  /**
   * Highest seq of each partition (by index) before this commit: what the export must hold, no more and no
   * less, besides the events of its own commit.
   */
  heads: Type.Array(Type.Integer({ minimum: 0 }), { maxItems: 1024 }),
});

/** Where the files of an export lie in the blob store: all of them, and no other's. */
export function filesOf(exportId: string): `${string}/` {
  return `exports/${exportId}/`;
}

/** What the export's job yields: the result in its `JobCompleted`. */
export const ExportResult = Type.Object({
  blob: Type.String({ maxLength: 300 }),
  fileName: Type.String({ maxLength: 200 }),
  bytes: Type.Integer({ minimum: 0 }),
  rows: Type.Integer({ minimum: 0 }),
  sha256: Type.String({ pattern: '^[0-9a-f]{64}$', maxLength: 64 }),
});
export type ExportResult = Static<typeof ExportResult>;

/** What the export's job says while it runs: the `detail` of its `JobProgressed`. */
export const ExportProgress = Type.Object({
  rows: Type.Integer({ minimum: 0 }),
  bytes: Type.Integer({ minimum: 0 }),
});
export type ExportProgress = Static<typeof ExportProgress>;

const resultValidator = Compile(ExportResult);
const progressValidator = Compile(ExportProgress);

/** A job's events hold results and details of any type; these tell an export's. */
export function isExportResult(value: unknown): value is ExportResult {
  return resultValidator.Check(value);
}

export function isExportProgress(value: unknown): value is ExportProgress {
  return progressValidator.Check(value);
}

/** What the export's job is given; all else is in the `ExportRequested` of that export. */
export const ExportPayload = Type.Object({ exportId: Type.String({ maxLength: 80 }) });
export type ExportPayload = Static<typeof ExportPayload>;

/** The type of the jobs that carry exports out; each comes with its export, and never alone. */
export const exportJobType: JobType & { readonly payload: typeof ExportPayload } = {
  type: EXPORT_JOB,
  enqueuedBy: 'nobody',
  queue: 'exports',
  maxAttempts: 5,
  timeoutSeconds: 3600,
  retry: { baseMs: 500, capMs: 60_000 },
  payload: ExportPayload,
  // Ids.
  personal: false,
};

export type ExportEvent = { type: 'ExportRequested'; data: Static<typeof ExportRequested> };
export type Export = { phase: 'none' } | { phase: 'requested' };

export const exportFold: Fold<Export, ExportEvent> = {
  fold: 1,
  initial: { phase: 'none' },
  evolve: () => ({ phase: 'requested' }),
};

export function requestExport(state: Export, data: Static<typeof ExportRequested>): Decision<ExportEvent> {
  if (state.phase !== 'none') return accept();
  return accept({ type: 'ExportRequested', data });
}
