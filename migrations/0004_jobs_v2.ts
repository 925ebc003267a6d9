import { type Kysely, sql } from 'kysely';

/** Jobs know their lane, their times and how they died, and dead letters have a table. The ledger fills both. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    DROP TABLE jobs_v1;
    DELETE FROM checkpoints WHERE group_name = 'projection:jobs@1';
    DELETE FROM parked_events WHERE group_name = 'projection:jobs@1';

    CREATE TABLE jobs_v2 (
      id text COLLATE "C" PRIMARY KEY,
      owner text COLLATE "C",
      type text NOT NULL,
      queue text NOT NULL,
      priority text NOT NULL,
      ordering_key text,
      lane text COLLATE "C",
      in_lane text,
      concurrency_key text,
      callback_url text,
      status text NOT NULL,
      due_at timestamptz NOT NULL,
      on_timer boolean NOT NULL,
      attempts int NOT NULL,
      progress double precision NOT NULL,
      worker text,
      result text,
      error text,
      reason text,
      discarded boolean NOT NULL,
      trace_id text,
      version int NOT NULL,
      created_at timestamptz NOT NULL,
      started_at timestamptz,
      finished_at timestamptz
    ) WITH (fillfactor = 80);
    CREATE INDEX jobs_v2_newest ON jobs_v2 (created_at DESC, id DESC);
    CREATE INDEX jobs_v2_owner ON jobs_v2 (owner, created_at DESC, id DESC);
    -- No index names the status, in its condition neither: it changes with each step of a job, and an update that
    -- changes what an index names writes into all of them. Of a job without a key and a timer these two see nothing.
    CREATE INDEX jobs_v2_lanes ON jobs_v2 (in_lane, lane) WHERE in_lane IS NOT NULL;
    CREATE INDEX jobs_v2_timers ON jobs_v2 (queue, due_at) WHERE on_timer;

    CREATE TABLE dead_letters_v1 (
      id text COLLATE "C" PRIMARY KEY,
      owner text COLLATE "C",
      type text NOT NULL,
      queue text,
      ordering_key text,
      lane text COLLATE "C",
      status text NOT NULL,
      reason text NOT NULL,
      attempts int NOT NULL,
      deaths int NOT NULL,
      error text NOT NULL,
      fingerprint text,
      worker text,
      ignored_abort boolean NOT NULL,
      died_at timestamptz NOT NULL,
      partition int NOT NULL,
      seq bigint NOT NULL,
      letter_version int NOT NULL,
      settled_at timestamptz,
      settled_by text,
      settled_for text,
      settled_in text,
      trace_id text,
      version int NOT NULL
    );
    CREATE INDEX dead_letters_v1_newest ON dead_letters_v1 (status, died_at DESC, id DESC);
    CREATE INDEX dead_letters_v1_settled ON dead_letters_v1 (settled_in) WHERE settled_in IS NOT NULL;
  `.execute(db);
}
