import { type Kysely, sql } from 'kysely';

/**
 * Postgres samples the values of each column for its planner, and keeps what it has sampled until it samples again: a key
 * that was deleted could be read from `pg_stats` for as long as that takes. Of these columns it takes no samples; that
 * their type is set, to what it is, removes those that it has. Nothing is rewritten for it.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    ALTER TABLE person_keys
      ALTER COLUMN wrapped_key SET STATISTICS 0, ALTER COLUMN wrapped_key TYPE bytea;
    ALTER TABLE credentials
      ALTER COLUMN password_hash SET STATISTICS 0, ALTER COLUMN password_hash TYPE text;
  `.execute(db);
}
