import { sql } from 'kysely';
import { expect, it, onTestFinished } from 'vitest';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { prepared } from '../../src/eventstore/prepared.ts';
import { createWorld } from '../support/world.ts';

async function oneConnection() {
  const world = await createWorld();
  const db = openDatabase({ url: world.databaseUrl, max: 1, applicationName: 'test' });
  onTestFinished(async () => {
    await db.destroy();
    await world.dispose();
  });
  const known = async () =>
    (await sql<{ statement: string }>`SELECT statement FROM pg_prepared_statements`.execute(db)).rows;
  return { db, known };
}

it('a marked statement is prepared once for its connection, and takes new parameters each time', async () => {
  const { db, known } = await oneConnection();
  for (const n of [1, 2, 3]) {
    const { rows } = await sql<{ n: number }>`${prepared} SELECT ${n}::int AS n`.execute(db);
    expect(rows).toEqual([{ n }]);
  }
  expect(await known()).toEqual([{ statement: '/* prepared */ SELECT $1::int AS n' }]);
});

it('any other statement leaves nothing behind in its connection', async () => {
  const { db, known } = await oneConnection();
  await sql`SELECT ${1}::int`.execute(db);
  expect(await known()).toEqual([]);
});

it('a marked statement that fails can be run again', async () => {
  const { db } = await oneConnection();
  const divide = (by: number) => sql<{ q: number }>`${prepared} SELECT 6 / ${by}::int AS q`.execute(db);
  await expect(divide(0)).rejects.toMatchObject({ code: '22012' });
  expect((await divide(3)).rows).toEqual([{ q: 2 }]);
});
