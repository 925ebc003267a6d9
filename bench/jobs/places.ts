import pg from 'pg';

export function redisUrl(): string {
  return given('REDIS_URL');
}

/** The database of one place. */
export function databaseUrl(place?: string): string {
  const url = new URL(given('DATABASE_URL'));
  if (place !== undefined) url.pathname = `/${place}`;
  return url.href;
}

export async function createDatabase(place: string): Promise<void> {
  await statement(`CREATE DATABASE ${place}`);
}

export async function dropDatabase(place: string): Promise<void> {
  await statement(`DROP DATABASE IF EXISTS ${place} WITH (FORCE)`);
}

async function statement(sql: string): Promise<void> {
  const client = new pg.Client({ connectionString: databaseUrl() });
  await client.connect();
  await client.query(sql).finally(() => client.end());
}

/** Asks one number of a place's database, again and again: one connection for all. */
export function counter(place: string, sql: string): () => Promise<number> {
  const pool = new pg.Pool({ connectionString: databaseUrl(place), max: 1 });
  return async () => Number((await pool.query<{ n: string }>(sql)).rows[0]?.n);
}

function given(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name}: npm run bench -- jobs sets it`);
  return value;
}
