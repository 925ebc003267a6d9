import { promises as fs } from 'node:fs';
import path from 'node:path';
import { type Kysely, sql } from 'kysely';
import { FileMigrationProvider, type Migration, Migrator } from 'kysely/migration';

const UNDEFINED_TABLE = '42P01';
/** Any number that nothing else in the database locks. */
const MIGRATION_LOCK = 7_305_641_802;

/**
 * Brings the database to the newest migration. Several processes may call it at once: one migrates, the others
 * wait and find nothing left to do. Throws what the failing migration threw; that one is rolled back.
 * @returns names of the migrations that this call ran
 */
export async function migrateToLatest<Tables>(db: Kysely<Tables>): Promise<string[]> {
  return db.connection().execute(async (connection) => {
    // Migrations may take long, and the others must outwait them: the pool's limits don't fit here.
    await sql`SELECT set_config('statement_timeout', '0', false), set_config('lock_timeout', '0', false)`.execute(
      connection,
    );
    // A lock of the session, taken before Kysely's own: that one is taken only after its tables were made.
    await sql`SELECT pg_advisory_lock(${sql.lit(MIGRATION_LOCK)}::bigint)`.execute(connection);
    try {
      // Asked beforehand: the migrator keeps the connection to itself while it asks.
      const migrations = await migrationsBeside(connection);
      const migrator = new Migrator({
        db: connection,
        provider: { getMigrations: async () => migrations },
      });
      const { error, results } = await migrator.migrateToLatest();
      if (error !== undefined) throw error;
      return (results ?? []).map((result) => result.migrationName);
    } finally {
      await sql`SELECT pg_advisory_unlock(${sql.lit(MIGRATION_LOCK)}::bigint)`.execute(connection);
      await sql`RESET statement_timeout`.execute(connection);
      await sql`RESET lock_timeout`.execute(connection);
    }
  });
}

/**
 * This code's migrations, and names for those that newer code has run: they only add, so older code runs beside them, and
 * can be gone back to. Kysely refuses a database that has migrations which it can't find.
 */
async function migrationsBeside<Tables>(db: Kysely<Tables>): Promise<Record<string, Migration>> {
  const own = await new FileMigrationProvider({ fs, path, migrationFolder: folder() }).getMigrations();
  const newest = Object.keys(own).sort().at(-1) ?? '';
  const { rows } = await sql<{ name: string }>`
    SELECT name FROM kysely_migration WHERE name > ${newest} ORDER BY name`
    .execute(db)
    .catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === UNDEFINED_TABLE) return { rows: [] };
      throw error;
    });
  const newer = rows.map(({ name }) => [name, { up: async () => {} }] as const);
  return { ...own, ...Object.fromEntries(newer) };
}

/** Migrations of this code that the database has not had yet, in their order. Changes nothing. */
export async function pendingMigrations<Tables>(db: Kysely<Tables>): Promise<string[]> {
  const own = await new FileMigrationProvider({ fs, path, migrationFolder: folder() }).getMigrations();
  const { rows } = await sql<{ name: string }>`SELECT name FROM kysely_migration`
    .execute(db)
    .catch((error: unknown) => {
      if (error instanceof Error && 'code' in error && error.code === UNDEFINED_TABLE) return { rows: [] };
      throw error;
    });
  const had = new Set(rows.map(({ name }) => name));
  return Object.keys(own)
    .filter((name) => !had.has(name))
    .sort();
}

function folder(): string {
  return path.join(import.meta.dirname, '..', '..', 'migrations');
}
