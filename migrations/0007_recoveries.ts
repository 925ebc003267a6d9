import { type Kysely, sql } from 'kysely';

/** What was recovered, when and why; and events of the log that had no place in the ledger. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE recoveries (
      recovery int PRIMARY KEY,
      problem text NOT NULL,
      asked_by text NOT NULL,
      asked_for text NOT NULL,
      begun_at timestamptz NOT NULL DEFAULT now(),
      ended_at timestamptz
    );

    CREATE TABLE quarantined_events (
      partition int NOT NULL,
      epoch int NOT NULL,
      seq bigint NOT NULL,
      event_id text NOT NULL,
      stream_id text COLLATE "C" NOT NULL,
      version int NOT NULL,
      type text NOT NULL,
      data text NOT NULL,
      meta text NOT NULL,
      quarantined_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (partition, event_id)
    );
  `.execute(db);
}
