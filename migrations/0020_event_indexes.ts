import { type Kysely, sql } from 'kysely';

/**
 * Operators look for events by type and by what they follow from. Times need no index: within a partition they are
 * nearly in the order of seq. Of correlations only equality is asked, and a hash takes a third of their text.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE INDEX ledger_type ON ledger (type, partition, seq);
    CREATE INDEX ledger_correlation ON ledger USING hash (correlation);
  `.execute(db);
}
