import { sql } from 'kysely';
import pg from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { createWorld } from '../support/world.ts';

async function open(max: number) {
  const world = await createWorld();
  const db = openDatabase<object>({ url: world.databaseUrl, max, applicationName: 'as-large-as-said' });
  onTestFinished(async () => {
    await db.destroy();
    await world.dispose();
  });
  return { db, world };
}

test('the pool is as large as it is said to be', async () => {
  const { db, world } = await open(7);
  await Promise.all(Array.from({ length: 20 }, () => sql`SELECT pg_sleep(0.05)`.execute(db)));
  const { rows } = await sql<{ count: number }>`
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = 'as-large-as-said'`.execute(world.db);
  expect(rows[0]?.count).toBe(7);
});

test('a pool size in the URL is refused, since pg would take it over ours', async () => {
  const url = 'postgres://u:p@127.0.0.1:1/d?max=16';
  expect(() => openDatabase({ url, max: 4, applicationName: 'x' })).toThrow(/may not set "max"/);
});

test("bigint is a number here, and pg's parsers stay as they are for the rest of the process", async () => {
  const { db } = await open(1);
  const { rows } = await sql`SELECT 9007199254740991::bigint AS seq, '{1,NULL}'::bigint[] AS seqs`.execute(
    db,
  );
  expect(rows).toEqual([{ seq: Number.MAX_SAFE_INTEGER, seqs: [1, null] }]);
  expect(pg.types.getTypeParser(20)('1')).toBe('1');
  await expect(sql`SELECT 9007199254740993::bigint`.execute(db)).rejects.toThrow(/beyond/);
});

test('a statement, a wait for a lock and an idle transaction all have an end', async () => {
  const { db } = await open(1);
  const { rows } = await sql`
    SELECT name, setting FROM pg_settings
    WHERE name IN ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout') ORDER BY name`.execute(
    db,
  );
  expect(rows).toEqual([
    { name: 'idle_in_transaction_session_timeout', setting: '15000' },
    { name: 'lock_timeout', setting: '5000' },
    { name: 'statement_timeout', setting: '15000' },
  ]);
});
