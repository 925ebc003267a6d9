import { type Kysely, sql } from 'kysely';

/** The permanent record, and what makes exactly one owner write to it. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- One row: which Redis log belongs to this database.
    CREATE TABLE installation (
      "only" boolean PRIMARY KEY DEFAULT true CHECK ("only"),
      store_id text NOT NULL,
      partitions int NOT NULL,
      recovery int NOT NULL DEFAULT 0,
      created_at timestamptz NOT NULL DEFAULT now()
    );

    -- Exact bytes of the log: text, never jsonb, which rewrites them and refuses some.
    CREATE TABLE ledger (
      partition int NOT NULL,
      seq bigint NOT NULL,
      epoch int NOT NULL,
      event_id text NOT NULL,
      stream_id text COLLATE "C" NOT NULL,
      version int NOT NULL,
      type text NOT NULL,
      owner text COLLATE "C",
      correlation text,
      recorded_at timestamptz NOT NULL,
      data text NOT NULL,
      meta text NOT NULL,
      PRIMARY KEY (partition, seq)
    );
    CREATE UNIQUE INDEX ledger_stream ON ledger (stream_id, version);
    CREATE INDEX ledger_owner ON ledger (owner, partition, seq) WHERE owner IS NOT NULL;

    CREATE TABLE stream_heads (
      stream_id text COLLATE "C" PRIMARY KEY,
      partition int NOT NULL,
      version int NOT NULL,
      seq bigint NOT NULL
    );

    -- The hash chain: each batch names the hash of all that came before it in its partition.
    CREATE TABLE ledger_batches (
      partition int NOT NULL,
      last_seq bigint NOT NULL,
      first_seq bigint NOT NULL,
      previous bytea NOT NULL,
      hash bytea NOT NULL,
      appended_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (partition, last_seq)
    );

    -- Where each ordered reader stands; moved by compare-and-set in the transaction of its rows.
    CREATE TABLE checkpoints (
      group_name text NOT NULL,
      partition int NOT NULL,
      epoch int NOT NULL DEFAULT 0,
      seq bigint NOT NULL DEFAULT 0,
      event_id text,
      token bigint NOT NULL DEFAULT 0,
      moved_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (group_name, partition)
    );

    -- Which positions of which epoch exist; a position outside of them was lost with Redis.
    CREATE TABLE epochs (
      partition int NOT NULL,
      epoch int NOT NULL,
      first_seq bigint NOT NULL,
      last_seq bigint,
      run_id text NOT NULL,
      started_at timestamptz NOT NULL DEFAULT now(),
      PRIMARY KEY (partition, epoch)
    );

    CREATE SEQUENCE fencing_tokens AS bigint;
  `.execute(db);
}
