import { type ExpressionBuilder, type Kysely, type Selectable, sql } from 'kysely';
import type { EventId, StreamId } from '../../domain/ids.ts';
import { hashBatch } from '../ledger-hash.ts';
import type { LedgerTables } from '../tables.ts';
import type { Archive, ArchiveFiles } from './archives.ts';
import { type ArchivedEvent, decodeArchive, encodeArchive, sha256Of } from './format.ts';
import { type ArchiveBounds, planArchive } from './plan.ts';
import { ArchiveRefusedError, registerArchive } from './register.ts';

type Db = Kysely<LedgerTables>;
type Batch = Selectable<LedgerTables['ledger_batches']>;

/** A file that is read whole for one event should be quick to read. */
const FILE_EVENTS = 10_000;
const FILE_CHARACTERS = 16_000_000;
/** Batches that are read at once. */
const BATCHES = 50;
/** Rows that leave the table in one transaction. */
const REMOVE = 2_000;

export type ArchiveOptions = ArchiveBounds & {
  readonly by: string;
  readonly reason: string;
  /** Events at which a file is full. Default 10,000. */
  readonly fileEvents?: number;
  /** Told of each file once its rows have left the table. */
  readonly onFile?: (archive: Archive) => void;
};

/**
 * Moves old events from the ledger's table to files. Each file is written, made durable, read back and compared with
 * the hash chain; then its row says that it is where these events are; then they leave the table, some at a time.
 * Cut off anywhere, nothing is lost and nothing is there twice for who reads; the next call goes on.
 *
 * Throws `ArchiveRefusedError` where the events are not what was appended, or somebody else archives just now.
 */
export async function archiveLedger(
  db: Db,
  files: ArchiveFiles,
  options: ArchiveOptions,
): Promise<Archive[]> {
  return alone(db, async () => {
    const done: Archive[] = [];
    const finish = async (archive: Archive) => {
      const emptied = await removeRows(db, archive);
      done.push(emptied);
      options.onFile?.(emptied);
    };
    for (const archive of await unfinished(db)) {
      await assertRight(files, archive.file, archive.sha256);
      await finish(archive);
    }
    for (const { partition, firstSeq, lastSeq } of await planArchive(db, options)) {
      for (let from = firstSeq; from <= lastSeq; ) {
        const archive = await writeOne(db, files, { partition, firstSeq: from, lastSeq }, options);
        await finish(archive);
        from = archive.last_seq + 1;
      }
    }
    return done;
  });
}

async function writeOne(
  db: Db,
  files: ArchiveFiles,
  range: { partition: number; firstSeq: number; lastSeq: number },
  options: ArchiveOptions,
): Promise<Archive> {
  const { events, batches } = await gather(db, range, options.fileEvents ?? FILE_EVENTS);
  assertChained(events, batches);
  const { file, bytes, sha256 } = await encodeArchive(events);
  await files.write(file, bytes);
  assertChained(await decodeArchive(await assertRight(files, file, sha256)), batches);
  const { by, reason } = options;
  const hash = batches.at(-1)?.hash ?? Buffer.of();
  return registerArchive(db, events, { file, bytes: bytes.length, sha256, hash, by, reason });
}

/** The file's bytes as they are read back. */
async function assertRight(files: ArchiveFiles, file: string, sha256: string): Promise<Uint8Array> {
  const bytes = await files.read(file);
  if (sha256Of(bytes) === sha256) return bytes;
  throw new ArchiveRefusedError(`${file} does not hold what was written: is the blob store's disk broken?`);
}

/** Whole batches, until the file is full. */
async function gather(
  db: Db,
  { partition, firstSeq, lastSeq }: { partition: number; firstSeq: number; lastSeq: number },
  fileEvents: number,
): Promise<{ events: ArchivedEvent[]; batches: Batch[] }> {
  const events: ArchivedEvent[] = [];
  const batches: Batch[] = [];
  let characters = 0;
  for (let after = firstSeq - 1; after < lastSeq; ) {
    const page = await batchesAfter(db, { partition, after, lastSeq });
    const rows = await rowsOf(db, partition, after, page.at(-1)?.last_seq ?? after);
    for (const batch of page) {
      const its = rows.filter(({ seq }) => seq >= batch.first_seq && seq <= batch.last_seq);
      for (const { data, meta } of its) characters += data.length + meta.length;
      events.push(...its);
      batches.push(batch);
      if (events.length >= fileEvents || characters >= FILE_CHARACTERS) return { events, batches };
    }
    const last = page.at(-1);
    if (!last) break;
    after = last.last_seq;
  }
  return { events, batches };
}

function batchesAfter(
  db: Db,
  { partition, after, lastSeq }: { partition: number; after: number; lastSeq: number },
): Promise<Batch[]> {
  return db
    .selectFrom('ledger_batches')
    .selectAll()
    .where('partition', '=', partition)
    .where('last_seq', '>', after)
    .where('last_seq', '<=', lastSeq)
    .orderBy('last_seq')
    .limit(BATCHES)
    .execute();
}

async function rowsOf(db: Db, partition: number, after: number, upTo: number): Promise<ArchivedEvent[]> {
  const rows = await db
    .selectFrom('ledger')
    .selectAll()
    .where('partition', '=', partition)
    .where('seq', '>', after)
    .where('seq', '<=', upTo)
    .orderBy('seq')
    .execute();
  return rows.map(({ event_id, stream_id, recorded_at, ...row }) => ({
    ...row,
    id: event_id as EventId,
    streamId: stream_id as StreamId,
    recordedAt: recorded_at.toISOString(),
  }));
}

/** Batches are dense, and so must the events be: a hash that is computed of others is another. */
function assertChained(events: readonly ArchivedEvent[], batches: readonly Batch[]): void {
  for (const { partition, first_seq, last_seq, previous, hash } of batches) {
    const base = events[0]?.seq ?? 0;
    const its = events.slice(first_seq - base, last_seq - base + 1);
    if (hashBatch(previous, its).equals(hash)) continue;
    throw new ArchiveRefusedError(
      `partition ${partition}, seq ${first_seq} to ${last_seq}, is not what was appended: see \`millrace verify ledger\``,
    );
  }
}

function unfinished(db: Db): Promise<Archive[]> {
  return db
    .selectFrom('ledger_archives')
    .selectAll()
    .where('emptied_at', 'is', null)
    .orderBy('partition')
    .orderBy('last_seq')
    .execute();
}

/** In small transactions: none may hold up the ledger's own. A Postgres that was set back may not know of the file any more. */
async function removeRows(db: Db, archive: Archive): Promise<Archive> {
  const { partition, first_seq, last_seq } = archive;
  for (let from = first_seq; from <= last_seq; from += REMOVE) {
    await db
      .deleteFrom('ledger')
      .where('partition', '=', partition)
      .where('seq', '>=', from)
      .where('seq', '<=', Math.min(last_seq, from + REMOVE - 1))
      .where(isKnown(archive))
      .execute();
  }
  return db
    .updateTable('ledger_archives')
    .set({ emptied_at: sql<Date>`now()` })
    .where('partition', '=', partition)
    .where('last_seq', '=', last_seq)
    .returningAll()
    .executeTakeFirstOrThrow();
}

const isKnown =
  ({ partition, last_seq, file }: Archive) =>
  ({ exists, selectFrom }: ExpressionBuilder<LedgerTables, 'ledger'>) =>
    exists(
      selectFrom('ledger_archives as a')
        .select('a.file')
        .where('a.partition', '=', partition)
        .where('a.last_seq', '=', last_seq)
        .where('a.file', '=', file),
    );

/** One archives at a time: the lock is its connection's, and ends with it. */
function alone<T>(db: Db, run: () => Promise<T>): Promise<T> {
  return db.connection().execute(async (connection) => {
    const key = sql`hashtext('millrace ledger archive')`;
    const { rows } = await sql<{ taken: boolean }>`SELECT pg_try_advisory_lock(${key}) AS taken`.execute(
      connection,
    );
    if (!rows[0]?.taken) throw new ArchiveRefusedError('somebody else archives the ledger just now');
    try {
      return await run();
    } finally {
      await sql`SELECT pg_advisory_unlock(${key})`.execute(connection);
    }
  });
}
