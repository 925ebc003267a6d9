import type { Kysely } from 'kysely';
import type { LedgerTables } from '../tables.ts';
import { verifyChain, verifyVersions } from './chain.ts';
import type { Findings } from './findings.ts';
import { onSnapshot } from './snapshot.ts';

/**
 * Verifies the ledger itself: dense seqs in every partition, dense versions in every stream, and the hash chain from
 * its first batch on.
 * @param onRead called with each page's number of events
 * @returns how many events it has
 */
export async function verifyLedger(
  db: Kysely<LedgerTables>,
  partitions: number,
  findings: Findings,
  onRead: (events: number) => void = () => {},
): Promise<number> {
  return onSnapshot(db, async (snapshot) => {
    let events = 0;
    for (let partition = 0; partition < partitions; partition++) {
      events += await verifyChain(snapshot, partition, findings, onRead);
    }
    await verifyVersions(snapshot, findings);
    return events;
  });
}
