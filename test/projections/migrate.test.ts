import { sql } from 'kysely';
import { expect, inject, onTestFinished, test } from 'vitest';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { migrateToLatest } from '../../src/projections/migrate.ts';
import { createDatabase, databaseUrl, dropDatabase, randomName } from '../support/databases.ts';

test('older code starts beside what newer code has migrated, and leaves it alone', async () => {
  const server = inject('serverUrl');
  const name = randomName('migrate');
  await createDatabase(server, name, 'template1');
  onTestFinished(() => dropDatabase(server, name));
  const db = openDatabase<object>({ url: databaseUrl(server, name), max: 1, applicationName: 'test' });
  onTestFinished(() => db.destroy());
  await migrateToLatest(db);
  await sql`INSERT INTO kysely_migration VALUES ('9999_newer', '2099-01-01T00:00:00.000Z')`.execute(db);
  expect(await migrateToLatest(db)).toEqual([]);
  await sql`INSERT INTO kysely_migration VALUES ('0002_lost', '2026-01-01T00:00:00.000Z')`.execute(db);
  await expect(migrateToLatest(db)).rejects.toThrow('0002_lost');
});

test('five processes that start at once migrate once, and all of them find the tables', async () => {
  const server = inject('serverUrl');
  const name = randomName('migrate');
  await createDatabase(server, name, 'template1');
  onTestFinished(() => dropDatabase(server, name));
  const pools = Array.from({ length: 5 }, () =>
    openDatabase<object>({
      url: databaseUrl(server, name),
      max: 1,
      applicationName: 'test',
      lockTimeoutMs: 50,
    }),
  );
  onTestFinished(async () => {
    await Promise.all(pools.map((pool) => pool.destroy()));
  });

  const ran = await Promise.all(pools.map((pool) => migrateToLatest(pool)));

  expect(ran.filter((names) => names.length > 0)).toEqual([
    expect.arrayContaining(['0001_ledger', '0002_people']),
  ]);
  for (const pool of pools) {
    const { rows } = await sql<{ count: number }>`SELECT count(*) AS count FROM ledger`.execute(pool);
    expect(rows).toEqual([{ count: 0 }]);
    const { rows: settings } = await sql`SHOW lock_timeout`.execute(pool);
    expect(settings).toEqual([{ lock_timeout: '50ms' }]);
  }
});
