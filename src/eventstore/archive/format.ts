import { createHash } from 'node:crypto';
import { promisify } from 'node:util';
import { gunzip, gzip } from 'node:zlib';
import type { RawEvent } from '../../domain/event.ts';

/** An event as the ledger's row has it: by whom and when, besides its bytes. */
export type ArchivedEvent = RawEvent & {
  readonly owner: string | null;
  readonly correlation: string | null;
  /** RFC 3339. */
  readonly recordedAt: string;
};

const zip = promisify(gzip);
const unzip = promisify(gunzip);

/**
 * A file of the archive: gzip of one JSON object a line, an event each, by seq. Named by what is in it, so that the
 * same events, written once more after a crash, are the same file. The names are stored: identifiers for life.
 */
export async function encodeArchive(events: readonly ArchivedEvent[]): Promise<{
  readonly file: string;
  readonly bytes: Buffer;
  readonly sha256: string;
}> {
  const [first, last] = [events[0], events.at(-1)];
  if (!first || !last) throw new Error('an archive holds at least one event');
  const bytes = await zip(events.map((event) => `${JSON.stringify(event)}\n`).join(''));
  const sha256 = sha256Of(bytes);
  const file = `ledger/p${first.partition}/${digits(first.seq)}-${digits(last.seq)}-${sha256.slice(0, 16)}.ndjson.gz`;
  return { file, bytes, sha256 };
}

/** @param bytes of a file whose hash was found right: what `encodeArchive` wrote */
export async function decodeArchive(bytes: Uint8Array): Promise<ArchivedEvent[]> {
  const text = (await unzip(bytes)).toString('utf8');
  const lines = text.split('\n');
  lines.pop();
  return lines.map((line) => JSON.parse(line) as ArchivedEvent);
}

export function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

/** Of one width, so that files are listed in order. */
function digits(seq: number): string {
  return String(seq).padStart(14, '0');
}
