import { type Kysely, sql, type Transaction } from 'kysely';
import type { LedgerTables } from '../tables.ts';
import type { Archive } from './archives.ts';
import type { ArchivedEvent } from './format.ts';
import { archivedTo } from './plan.ts';

/** What was to be archived is not what there is, or not any more: nothing of it is. */
export class ArchiveRefusedError extends Error {
  override readonly name = 'ArchiveRefusedError';
}

type File = {
  readonly file: string;
  readonly bytes: number;
  readonly sha256: string;
  /** Of the hash chain, after its last event. */
  readonly hash: Uint8Array;
  readonly by: string;
  readonly reason: string;
};

/** What a file holds of a stream. */
export type ArchivedPart = { stream: string; first: number; last: number; seq: number };

/**
 * Says, in one transaction, that these events are in this file from now on, and how to find them there. Throws
 * `ArchiveRefusedError` where they do not follow the files that there are, or the ledger does not have them: somebody else
 * archives, or Postgres was set back since they were read.
 */
export async function registerArchive(
  db: Kysely<LedgerTables>,
  events: readonly ArchivedEvent[],
  { file, bytes, sha256, hash, by, reason }: File,
): Promise<Archive> {
  const [first, last] = [events[0], events.at(-1)];
  if (!first || !last) throw new Error('an archive holds at least one event');
  const times = events.map(({ recordedAt }) => Date.parse(recordedAt));
  return db.transaction().execute(async (trx) => {
    await assertNext(trx, first, last, hash);
    const archive = await trx
      .insertInto('ledger_archives')
      .values({
        partition: first.partition,
        first_seq: first.seq,
        last_seq: last.seq,
        last_epoch: last.epoch,
        events: events.length,
        first_at: new Date(Math.min(...times)),
        last_at: new Date(Math.max(...times)),
        file,
        bytes,
        sha256,
        archived_by: by,
        archived_for: reason,
      })
      .returningAll()
      .executeTakeFirstOrThrow();
    await sql`
      INSERT INTO archived_streams (stream_id, first_version, last_version, partition, archive, last_seq)
      SELECT stream, first, last, ${first.partition}, ${last.seq}, seq
      FROM json_to_recordset(${JSON.stringify(partsOf(events))}::json) AS s(stream text, first int, last int, seq bigint)`.execute(
      trx,
    );
    await sql`
      INSERT INTO archived_owners (owner, partition, archive, events)
      SELECT owner, ${first.partition}, ${last.seq}, events
      FROM json_to_recordset(${JSON.stringify(ownersOf(events))}::json) AS o(owner text, events int)`.execute(
      trx,
    );
    return archive;
  });
}

async function assertNext(
  trx: Transaction<LedgerTables>,
  first: ArchivedEvent,
  { partition, seq }: ArchivedEvent,
  hash: Uint8Array,
): Promise<void> {
  // The lock of who archives is its connection's, and may have gone with it.
  await sql`SELECT pg_advisory_xact_lock(hashtext('millrace ledger archive file'), ${partition})`.execute(
    trx,
  );
  const batch = await trx
    .selectFrom('ledger_batches')
    .select('hash')
    .where('partition', '=', partition)
    .where('last_seq', '=', seq)
    .executeTakeFirst();
  const follows = (await archivedTo(trx, partition)) === first.seq - 1;
  if (follows && batch && Buffer.compare(batch.hash, hash) === 0) return;
  throw new ArchiveRefusedError(
    `partition ${partition}, seq ${first.seq} to ${seq}: somebody else has archived since, or Postgres was set back. Nothing of it was archived: try again`,
  );
}

export function partsOf(events: readonly ArchivedEvent[]): ArchivedPart[] {
  const parts = new Map<string, ArchivedPart>();
  for (const { streamId, version, seq } of events) {
    const part = parts.get(streamId);
    parts.set(streamId, { stream: streamId, first: part?.first ?? version, last: version, seq });
  }
  return [...parts.values()];
}

function ownersOf(events: readonly ArchivedEvent[]): { owner: string; events: number }[] {
  const counts = new Map<string, number>();
  for (const { owner } of events) if (owner !== null) counts.set(owner, (counts.get(owner) ?? 0) + 1);
  return [...counts].map(([owner, count]) => ({ owner, events: count }));
}
