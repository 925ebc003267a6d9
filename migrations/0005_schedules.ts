import { type Kysely, sql } from 'kysely';

/** What runs again and again. A row changes with each tick, its indexed columns never. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE schedules_v1 (
      id text COLLATE "C" PRIMARY KEY,
      owner text COLLATE "C",
      cron text NOT NULL,
      timezone text NOT NULL,
      missed text NOT NULL,
      job text NOT NULL,
      next_run_at timestamptz,
      last_run_at timestamptz,
      last_job_id text,
      deleted boolean NOT NULL,
      version int NOT NULL,
      created_at timestamptz NOT NULL
    ) WITH (fillfactor = 80);
    CREATE INDEX schedules_v1_newest ON schedules_v1 (created_at DESC, id DESC);
    CREATE INDEX schedules_v1_owner ON schedules_v1 (owner, created_at DESC, id DESC);
  `.execute(db);
}
