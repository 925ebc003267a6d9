import { sql } from 'kysely';
import pg from 'pg';
import { expect, onTestFinished, test, vi } from 'vitest';
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

// Without a listener the connection's `error` would end the process: the run then fails with an unhandled error.
test('a connection that Postgres ends in the middle of a query, or of a transaction, fails that and nothing else', async () => {
  const { db, world } = await open(2);
  const pid = async () =>
    (await sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`.execute(db)).rows[0]?.pid;
  const end = () =>
    sql`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
      WHERE datname = current_database() AND application_name = 'as-large-as-said'`.execute(world.db);
  let failure: unknown;
  const sleeping = sql`SELECT pg_sleep(20)`.execute(db).catch((error: unknown) => {
    failure = error;
  });
  await vi.waitFor(async () => {
    await end();
    expect(failure).toBeInstanceOf(Error);
  }, 10_000);
  await sleeping;
  const idle = db.transaction().execute(async (trx) => {
    await sql`SELECT 1`.execute(trx);
    await end();
    await new Promise((resolve) => setTimeout(resolve, 100));
    await sql`SELECT 1`.execute(trx);
  });
  await expect(idle).rejects.toThrow();
  expect(await pid()).toBeGreaterThan(0);
});
