import { type Kysely, sql } from 'kysely';

/** Read models: a table per projection and version; only the projection's own code reads or writes it. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    CREATE TABLE accounts_v1 (
      id text COLLATE "C" PRIMARY KEY,
      email text NOT NULL,
      name text NOT NULL,
      role text NOT NULL,
      version int NOT NULL,
      created_at timestamptz NOT NULL
    );

    CREATE TABLE jobs_v1 (
      id text COLLATE "C" PRIMARY KEY,
      owner text COLLATE "C",
      type text NOT NULL,
      queue text NOT NULL,
      status text NOT NULL,
      attempts int NOT NULL,
      progress double precision NOT NULL,
      result text,
      error text,
      trace_id text,
      version int NOT NULL,
      created_at timestamptz NOT NULL,
      started_at timestamptz,
      finished_at timestamptz
    ) WITH (fillfactor = 80);
    CREATE INDEX jobs_v1_newest ON jobs_v1 (created_at DESC, id DESC);
    CREATE INDEX jobs_v1_owner ON jobs_v1 (owner, created_at DESC, id DESC);

    CREATE TABLE exports_v1 (
      id text COLLATE "C" PRIMARY KEY,
      owner text COLLATE "C",
      dataset text,
      format text,
      status text NOT NULL,
      progress double precision NOT NULL,
      attempts int NOT NULL,
      row_count bigint NOT NULL,
      bytes bigint NOT NULL,
      blob text,
      file_name text,
      sha256 text,
      error text,
      trace_id text,
      version int NOT NULL,
      created_at timestamptz NOT NULL,
      started_at timestamptz,
      finished_at timestamptz
    ) WITH (fillfactor = 80);
    CREATE INDEX exports_v1_newest ON exports_v1 (created_at DESC, id DESC);
    CREATE INDEX exports_v1_owner ON exports_v1 (owner, created_at DESC, id DESC);

    -- Events that a projection could not apply, and all later ones of the same row.
    CREATE TABLE parked_events (
      group_name text NOT NULL,
      partition int NOT NULL,
      seq bigint NOT NULL,
      epoch int NOT NULL,
      row_key text COLLATE "C" NOT NULL,
      error text NOT NULL,
      parked_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (group_name, partition, seq)
    );
    CREATE INDEX parked_events_row ON parked_events (group_name, row_key);
  `.execute(db);
}
