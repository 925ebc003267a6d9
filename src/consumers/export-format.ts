import type { ExportFormat } from '../domain/exports.ts';
import type { StreamId } from '../domain/ids.ts';

/** One event as an export shows it. */
export type ExportRow = {
  readonly id: string;
  readonly type: string;
  readonly streamId: StreamId;
  readonly version: number;
  readonly position: string;
  /** RFC 3339 UTC. */
  readonly time: string;
  readonly data: unknown;
};

const COLUMNS = ['id', 'type', 'streamId', 'version', 'position', 'time', 'data'] as const;

type Format = {
  readonly extension: string;
  /** What stands before the first row. */
  readonly head: string;
  readonly line: (row: ExportRow) => string;
};

export const exportFormats: Readonly<Record<ExportFormat, Format>> = {
  /** A JSON object a line. */
  ndjson: { extension: 'ndjson', head: '', line: (row) => `${JSON.stringify(row)}\n` },
  /** RFC 4180, CRLF, with a header; `data` is JSON in one field. */
  csv: {
    extension: 'csv',
    head: `${COLUMNS.join(',')}\r\n`,
    line: (row) =>
      `${COLUMNS.map((column) => csvField(column === 'data' ? JSON.stringify(row.data) : String(row[column]))).join(',')}\r\n`,
  },
};

function csvField(text: string): string {
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
