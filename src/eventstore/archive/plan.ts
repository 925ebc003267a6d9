import type { Kysely } from 'kysely';
import { ledgerHeads } from '../checkpoints.ts';
import type { LedgerTables } from '../tables.ts';

/** What may leave the table. */
export type ArchiveBounds = {
  /** Only what the ledger took before. */
  readonly before?: Date;
  /** Only events of this partition with a lower seq. */
  readonly below?: { readonly partition: number; readonly seq: number };
  /** As many of the newest events of each partition stay, whatever their age. Its newest batch stays in any case. */
  readonly keepEvents: number;
};

/** Events of a partition that may go to files: whole batches of the hash chain. */
export type ArchiveRange = {
  readonly partition: number;
  readonly firstSeq: number;
  readonly lastSeq: number;
};

/** What would be archived; partitions with nothing to archive are left out. */
export async function planArchive(db: Kysely<LedgerTables>, bounds: ArchiveBounds): Promise<ArchiveRange[]> {
  const ranges: ArchiveRange[] = [];
  for (const [partition, head] of [...(await ledgerHeads(db))].sort(([a], [b]) => a - b)) {
    if (bounds.below && bounds.below.partition !== partition) continue;
    const highest = Math.min(
      head - Math.max(1, bounds.keepEvents),
      bounds.below ? bounds.below.seq - 1 : Number.POSITIVE_INFINITY,
    );
    const firstSeq = (await archivedTo(db, partition)) + 1;
    const lastSeq = (await lastBatch(db, partition, highest, bounds.before))?.last_seq ?? 0;
    if (lastSeq >= firstSeq) ranges.push({ partition, firstSeq, lastSeq });
  }
  return ranges;
}

/** The seq up to which a partition's events lie in files; 0: none do. */
export async function archivedTo(db: Kysely<LedgerTables>, partition: number): Promise<number> {
  const row = await db
    .selectFrom('ledger_archives')
    .select(({ fn }) => fn.max('last_seq').as('seq'))
    .where('partition', '=', partition)
    .executeTakeFirst();
  return row?.seq ?? 0;
}

function lastBatch(db: Kysely<LedgerTables>, partition: number, highest: number, before: Date | undefined) {
  let query = db
    .selectFrom('ledger_batches')
    .select('last_seq')
    .where('partition', '=', partition)
    .where('last_seq', '<=', highest)
    .orderBy('last_seq', 'desc')
    .limit(1);
  if (before) query = query.where('appended_at', '<', before);
  return query.executeTakeFirst();
}
