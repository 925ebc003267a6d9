import type { Kysely } from 'kysely';
import type { Archives } from '../archive/archives.ts';
import type { LedgerTables } from '../tables.ts';
import { toleratingDamage, verifyArchives } from './archives.ts';
import { verifyChain, verifyVersions } from './chain.ts';
import type { Findings } from './findings.ts';
import { onSnapshot } from './snapshot.ts';

/**
 * Verifies the ledger itself: dense seqs in every partition, dense versions in every stream, and the hash chain from
 * its first batch on, those of its parts that lie in files included.
 * @param onRead called with each page's number of events
 * @returns how many events it has
 */
export async function verifyLedger(
  db: Kysely<LedgerTables>,
  partitions: number,
  findings: Findings,
  archives?: Archives,
  onRead: (events: number) => void = () => {},
): Promise<number> {
  const readable = archives && toleratingDamage(archives, findings);
  return onSnapshot(db, async (snapshot) => {
    let events = 0;
    for (let partition = 0; partition < partitions; partition++) {
      events += await verifyChain(snapshot, partition, findings, readable, onRead);
    }
    if (readable) await verifyArchives(snapshot, readable, findings);
    await verifyVersions(snapshot, findings);
    return events;
  });
}
