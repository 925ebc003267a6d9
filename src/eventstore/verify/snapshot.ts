import { type Kysely, sql, type Transaction } from 'kysely';

/**
 * Runs `read` on one state of the database, that of its first query, whatever is written meanwhile: a checkpoint and
 * the rows that it stands for belong together. Nothing can be written in it. It holds back the vacuum for as long as
 * it takes.
 */
export function onSnapshot<DB, T>(
  db: Kysely<DB>,
  read: (snapshot: Transaction<DB>) => Promise<T>,
): Promise<T> {
  return db
    .transaction()
    .setIsolationLevel('repeatable read')
    .setAccessMode('read only')
    .execute(async (snapshot) => {
      // Sorting all versions of a large ledger takes longer than any query of a live system may.
      await sql`SET LOCAL statement_timeout = 0`.execute(snapshot);
      return read(snapshot);
    });
}
