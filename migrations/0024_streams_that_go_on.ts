import { type Kysely, sql } from 'kysely';

/**
 * Heads of streams and rows of jobs change soon after they were made: room in their pages for that keeps such a change from
 * writing into every index of the table. Pages that are full already stay so.
 *
 * `refuse` ends a statement, and undoes what it has done, where a check over what it did fails.
 */
export async function up(db: Kysely<unknown>): Promise<void> {
  await sql`
    ALTER TABLE stream_heads SET (fillfactor = 50);
    DO $$
    DECLARE named text;
    BEGIN
      SELECT table_name INTO named FROM read_models WHERE projection = 'jobs' AND version = 2;
      EXECUTE format('ALTER TABLE %I SET (fillfactor = 50)', named);
    END $$;

    CREATE FUNCTION refuse(reason text) RETURNS bigint LANGUAGE plpgsql AS $$
    BEGIN
      RAISE EXCEPTION '%', reason USING ERRCODE = 'MR001';
    END $$;
  `.execute(db);
}
