import { type Kysely, sql } from 'kysely';

/** What operators did, by whom and why. A row is written once. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE operations_v1 (
      id text COLLATE "C" PRIMARY KEY,
      operation text COLLATE "C" NOT NULL,
      target text COLLATE "C" NOT NULL,
      parameters text NOT NULL,
      actor text COLLATE "C" NOT NULL,
      reason text NOT NULL,
      correlation text NOT NULL,
      trace_id text,
      version int NOT NULL,
      created_at timestamptz NOT NULL
    );
    CREATE INDEX operations_v1_newest ON operations_v1 (created_at DESC, id DESC);
    CREATE INDEX operations_v1_target ON operations_v1 (target, created_at DESC, id DESC);
    SELECT make_read_model('operations', 1);
  `.execute(db);
}
