import { setTimeout as sleep } from 'node:timers/promises';
import { type Kysely, sql } from 'kysely';
import { type Archives, nextArchive } from './archive/archives.ts';
import { ledgerHeads } from './checkpoints.ts';
import type { LedgerTables } from './tables.ts';
import { StoreUnavailableError } from './types.ts';

const POLL_MS = 20;

/** Waits until the ledger holds all up to these seqs, by partition. Throws `StoreUnavailableError` after `withinMs`. */
export async function untilLedgerHolds(
  db: Kysely<LedgerTables>,
  heads: readonly number[],
  withinMs: number,
): Promise<void> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const held = await ledgerHeads(db);
    if (heads.every((seq, partition) => (held.get(partition) ?? 0) >= seq)) return;
    if (performance.now() > deadline) {
      throw new StoreUnavailableError('the ledger does not hold yet what the log does; try again');
    }
    await sleep(POLL_MS);
  }
}

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
