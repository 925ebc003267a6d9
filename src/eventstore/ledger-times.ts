import { type Kysely, sql } from 'kysely';
import { type Archives, nextArchive } from './archive/archives.ts';
import type { LedgerTables } from './tables.ts';

/**
 * The first event of a partition that was decided at or after a time. Undefined: there is none. Times are no order: events
 * after it may be from before.
 */
export async function firstSeqSince(
  db: Kysely<LedgerTables>,
  archives: Archives | undefined,
  partition: number,
  since: Date,
): Promise<number | undefined> {
  for (let after = 0; ; ) {
    const archive = await nextArchive(db, { partition, after });
    if (!archive) break;
    after = archive.last_seq;
    if (archive.last_at < since) continue;
    if (!archives) return archive.first_seq;
    const events = await archives.read(archive);
    const first = events.find(({ recordedAt }) => new Date(recordedAt) >= since);
    if (first) return first.seq;
  }
  const { rows } = await sql<{ seq: number | null }>`
    SELECT min(seq) AS seq FROM ledger WHERE partition = ${partition} AND recorded_at >= ${since}`.execute(
    db,
  );
  return rows[0]?.seq ?? undefined;
}
