import { type Kysely, sql } from 'kysely';

/** Who was erased: not who they were. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE erasures_v1 (
      id text COLLATE "C" PRIMARY KEY,
      job_id text NOT NULL,
      reason text,
      erased_at timestamptz NOT NULL,
      completed_at timestamptz,
      sessions int,
      jobs int,
      schedules int,
      exports int,
      partition int NOT NULL,
      seq bigint NOT NULL,
      version int NOT NULL
    );
    CREATE INDEX erasures_v1_newest ON erasures_v1 (erased_at DESC, id DESC);
    SELECT make_read_model('erasures', 1);
  `.execute(db);
}
