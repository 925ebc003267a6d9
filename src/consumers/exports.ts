import { pipeline, Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { createGzip } from 'node:zlib';
import type { Kysely } from 'kysely';
import type { BlobStore } from '../blobs/blobs.ts';
import type { RawEvent, Recorded } from '../domain/event.ts';
import { codec } from '../domain/events.ts';
import {
  type ExportEvent,
  type ExportPayload,
  ExportResult,
  exportJobType,
  filesOf,
} from '../domain/exports.ts';
import { type AccountId, type ExportId, parseStreamId } from '../domain/ids.ts';
import { formatPosition } from '../domain/position.ts';
import type { Archives } from '../eventstore/archive/archives.ts';
import { countLedger, readLedger, readStream } from '../eventstore/ledger-read.ts';
import type { LedgerTables } from '../eventstore/tables.ts';
import { defineJob, type JobContext } from './define-job.ts';
import { type ExportRow, exportFormats } from './export-format.ts';
import { LEDGER_POLL_MS, ledgerHolds } from './ledger-holds.ts';

export type ExportDeps = {
  readonly db: Kysely<LedgerTables>;
  /** Where the ledger's oldest events are read from. */
  readonly archives?: Archives | undefined;
  readonly blobs: BlobStore;
  /** Opens the sealed fields of one person's event data; other data is given back as it is. */
  readonly openSealed: (accountId: AccountId, data: unknown) => Promise<unknown>;
  /** Letters and digits. */
  readonly randomText: (length: number) => string;
};

/** Events read at once: what bounds the memory of an export, whatever its size. */
const PAGE = 500;

type Requested = Recorded<ExportEvent>;

/** The job that carries an export out: ledger → gzip → blob store, in bounded memory. */
export function exportJob(deps: ExportDeps) {
  return defineJob({
    ...exportJobType,
    result: ExportResult,
    run: (context) => runExport(deps, context),
  });
}

async function runExport(deps: ExportDeps, context: JobContext<ExportPayload>): Promise<ExportResult> {
  const { job, signal } = context;
  const exportId: ExportId | undefined = parseStreamId(job.payload.exportId, 'exp');
  if (!exportId) throw new Error(`${job.payload.exportId} is not an export's id`);

  const request = await requestIn(deps, exportId, signal);
  const limits = request.data.heads.map((head, partition) =>
    partition === request.partition ? request.seq : head,
  );
  await ledgerHolds(deps.db, limits, signal);

  const owner = request.data.scope === 'own' ? request.meta.owner : undefined;
  if (request.data.scope === 'own' && owner === undefined)
    throw new Error(`${exportId} has no owner whose events it could hold`);
  const total = await countLedger(deps.db, { limits, ...(owner ? { owner } : {}) });
  const format = exportFormats[request.data.format];
  let rows = 0;

  async function* lines(): AsyncGenerator<string> {
    yield format.head;
    for await (const page of pages(deps, limits, owner, signal)) {
      let text = '';
      for (const event of page) text += format.line(await rowOf(deps, event, owner as AccountId | undefined));
      rows += page.length;
      yield text;
      context.progress(total === 0 ? 99 : Math.min(99, (rows / total) * 100), { rows });
    }
  }

  // Every run writes a file of its own: a stale worker that is still writing spoils nothing. What earlier runs have
  // left was never accepted, or this one would not be.
  const folder = filesOf(exportId);
  for await (const { key } of deps.blobs.list(folder)) await deps.blobs.remove(key);
  const blob = `${folder}${job.attempt}-${deps.randomText(8)}.${format.extension}.gz`;
  const zipped = pipeline(Readable.from(lines()), createGzip(), () => {
    // An error of the source reaches the store's write, which consumes this stream.
  });
  const written = await deps.blobs.write(blob, zipped, { signal });
  return { blob, fileName: `events-${exportId}.${format.extension}.gz`, rows, ...written };
}

/** The export's own request, once the ledger has it. */
async function requestIn(deps: ExportDeps, exportId: ExportId, signal: AbortSignal): Promise<Requested> {
  for (;;) {
    const [first] = await readStream(deps.db, exportId, {}, deps.archives);
    const event = first && codec.decode(first);
    if (event?.type === 'ExportRequested') return event;
    await sleep(LEDGER_POLL_MS, undefined, { signal });
  }
}

async function* pages(
  deps: ExportDeps,
  limits: readonly number[],
  owner: string | undefined,
  signal: AbortSignal,
) {
  for (const [partition, upTo] of limits.entries()) {
    for (let after = 0; after < upTo; ) {
      signal.throwIfAborted();
      const range = { partition, after, upTo, limit: PAGE, ...(owner ? { owner } : {}) };
      const page = await readLedger(deps.db, range, deps.archives);
      const last = page.at(-1);
      if (!last) break;
      yield page;
      after = last.seq;
    }
  }
}

/** Own exports are readable throughout; in an operator's the personal fields of others stay sealed. */
async function rowOf(deps: ExportDeps, event: RawEvent, owner: AccountId | undefined): Promise<ExportRow> {
  const data: unknown = JSON.parse(event.data);
  const meta = JSON.parse(event.meta) as { at: string };
  return {
    id: event.id,
    type: event.type,
    streamId: event.streamId,
    version: event.version,
    position: formatPosition(event),
    time: meta.at,
    data: owner ? await deps.openSealed(owner, data) : data,
  };
}
