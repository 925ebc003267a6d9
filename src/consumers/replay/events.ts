import { type Kysely, sql } from 'kysely';
import type { RawEvent } from '../../domain/event.ts';
import type { Archives } from '../../eventstore/archive/archives.ts';
import { readLedger } from '../../eventstore/ledger-read.ts';
import type { Database } from '../../projections/database.ts';
import { erasedAmong } from '../../projections/erasures.ts';
import { decidedAt, ownerOf } from '../event-meta.ts';

/** Which events: of these types, decided from `from` on, and before `to`. */
export type Selection = { readonly types: readonly string[]; readonly from: Date; readonly to: Date };

/** Events of a partition with seqs above `after`, up to `upTo`. */
export type SeqRange = { readonly partition: number; readonly after: number; readonly upTo: number };

export type LedgerSource = { readonly db: Kysely<Database>; readonly archives?: Archives | undefined };

/** The narrowest ranges that are known to hold all of the selection that the ledger has. */
export async function rangesOf({ db }: LedgerSource, { types, from, to }: Selection): Promise<SeqRange[]> {
  const { rows } = await sql<{ partition: number; first: number; last: number }>`
    SELECT partition, min(first) AS first, max(last) AS last FROM (
      SELECT partition, min(seq) AS first, max(seq) AS last FROM ledger
      WHERE recorded_at >= ${from} AND recorded_at < ${to} AND type = ANY(${[...types]}::text[]) GROUP BY partition
      UNION ALL
      SELECT partition, first_seq, last_seq FROM ledger_archives WHERE last_at >= ${from} AND first_at < ${to}
    ) AS found GROUP BY partition ORDER BY partition`.execute(db);
  return rows.map(({ partition, first, last }) => ({
    partition,
    after: Number(first) - 1,
    upTo: Number(last),
  }));
}

/**
 * What of a range is in the selection, by seq, a page at a time. Of persons that were erased nothing more comes.
 */
export async function* eventsIn(
  { db, archives }: LedgerSource,
  { types, from, to }: Selection,
  range: SeqRange,
  limit: number,
): AsyncGenerator<RawEvent[]> {
  for (let after = range.after; ; ) {
    const page = await readLedger(db, { ...range, after, types, limit }, archives);
    const last = page.at(-1);
    if (!last) return;
    const owners = new Set(page.flatMap(({ meta }) => ownerOf(meta) ?? []));
    const erased = await erasedAmong(db, [...owners]);
    const wanted = page.filter(({ meta }) => {
      const at = decidedAt(meta);
      if (erased.has(ownerOf(meta) ?? '')) return false;
      return at !== undefined && at >= from.getTime() && at < to.getTime();
    });
    if (wanted.length > 0) yield wanted;
    if (page.length < limit) return;
    after = last.seq;
  }
}
