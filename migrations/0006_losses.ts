import { type Kysely, sql } from 'kysely';

/** What Redis was found to have lost before the ledger had it: of an epoch, what lies above `last_seq`, up to `seq`. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE losses (
      partition int NOT NULL,
      epoch int NOT NULL,
      seq bigint NOT NULL,
      last_seq bigint NOT NULL,
      noticed_at timestamptz NOT NULL DEFAULT now(),
      accepted_at timestamptz,
      accepted_by text,
      accepted_for text,
      PRIMARY KEY (partition, epoch)
    );
  `.execute(db);
}
