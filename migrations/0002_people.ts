import { type Kysely, sql } from 'kysely';

/** What is known about people and may never be in an event: their keys and their password hashes. */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    -- The one home of each person's data key, wrapped by the master key.
    CREATE TABLE person_keys (
      account_id text COLLATE "C" PRIMARY KEY,
      wrapped_key bytea NOT NULL,
      master_key_id text NOT NULL,
      created_at timestamptz NOT NULL DEFAULT now()
    );

    CREATE TABLE credentials (
      account_id text COLLATE "C" PRIMARY KEY,
      password_hash text NOT NULL,
      changed_at timestamptz NOT NULL DEFAULT now()
    );
  `.execute(db);
}
