import type { Kysely } from 'kysely';
import type { LedgerTables } from '../tables.ts';
import type { Archive } from './archives.ts';

/** All archives of the ledger, by partition and seq. */
export function archivesIn(db: Kysely<LedgerTables>): Promise<Archive[]> {
  return db.selectFrom('ledger_archives').selectAll().orderBy('partition').orderBy('last_seq').execute();
}
