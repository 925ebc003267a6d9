import { openDatabase } from '../eventstore/postgres.ts';
import { migrateToLatest } from '../projections/migrate.ts';
import { UsageError } from './exit.ts';

/** `millrace migrate`: needs DATABASE_URL only, so that it can run before anything else is configured. */
export async function migrate(options: { json?: boolean }): Promise<void> {
  const url = process.env.DATABASE_URL;
  if (!url) throw new UsageError('DATABASE_URL is missing: name the database to migrate.');
  const db = openDatabase({ url, max: 2, applicationName: 'millrace-migrate' });
  try {
    const applied = await migrateToLatest(db);
    if (options.json) console.log(JSON.stringify({ applied }));
    else console.log(applied.length === 0 ? 'Nothing to migrate.' : `Migrated: ${applied.join(', ')}.`);
  } finally {
    await db.destroy();
  }
}
