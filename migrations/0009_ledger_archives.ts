import { type Kysely, sql } from 'kysely';

/** Old parts of the ledger that lie in files, and what is needed to find an event in them. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- From the row on, the file is where these events are; their rows in the ledger go after it.
    CREATE TABLE ledger_archives (
      partition int NOT NULL,
      last_seq bigint NOT NULL,
      first_seq bigint NOT NULL,
      last_epoch int NOT NULL,
      events int NOT NULL,
      first_at timestamptz NOT NULL,
      last_at timestamptz NOT NULL,
      file text NOT NULL,
      bytes bigint NOT NULL,
      sha256 text NOT NULL,
      archived_at timestamptz NOT NULL DEFAULT now(),
      archived_by text NOT NULL,
      archived_for text NOT NULL,
      -- When the last of its rows had left the ledger; null: some may be there still.
      emptied_at timestamptz,
      PRIMARY KEY (partition, last_seq)
    );

    -- Which versions of a stream lie in which file.
    CREATE TABLE archived_streams (
      stream_id text COLLATE "C" NOT NULL,
      last_version int NOT NULL,
      first_version int NOT NULL,
      partition int NOT NULL,
      archive int8 NOT NULL,
      last_seq bigint NOT NULL,
      PRIMARY KEY (stream_id, last_version),
      FOREIGN KEY (partition, archive) REFERENCES ledger_archives (partition, last_seq)
    );

    -- How many events of an account lie in which file.
    CREATE TABLE archived_owners (
      owner text COLLATE "C" NOT NULL,
      partition int NOT NULL,
      archive int8 NOT NULL,
      events int NOT NULL,
      PRIMARY KEY (owner, partition, archive),
      FOREIGN KEY (partition, archive) REFERENCES ledger_archives (partition, last_seq)
    );
  `.execute(db);
}
