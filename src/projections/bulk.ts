import { type Kysely, sql, type Transaction } from 'kysely';
import type { Database } from './database.ts';
import type { AnyProjection, AnyRow } from './projection.ts';

/**
 * The rows of these keys that exist, in one query.
 *
 * Not a named (prepared) statement: from its sixth run on Postgres keeps one plan for it, made perhaps while the
 * table was still empty, and a scan of the whole table for each batch it stays (measured: 13k instead of 43k
 * events/s at 10,000 rows, and worse with each row).
 */
export async function loadRows<R extends AnyRow>(
  db: Kysely<Database>,
  projection: AnyProjection<R>,
  keys: readonly string[],
): Promise<Map<string, R>> {
  const columns = sql.join(Object.keys(projection.columns).map((column) => sql.ref(column)));
  const table = sql.table(projection.table);
  const found = await sql<R>`SELECT ${columns} FROM ${table} WHERE id = ANY(${keys}::text[])`.execute(db);
  return new Map(found.rows.map((row) => [row.id, row]));
}

/**
 * Writes whole rows, new or not, in one statement. They go in order of their keys: two transactions that lock
 * the same rows in different orders would deadlock.
 *
 * One JSON parameter costs less than an array per column, and far less than a statement per row (73k rows/s
 * against 65k and 5.6k).
 */
export async function upsertRows<R extends AnyRow>(
  trx: Transaction<Database>,
  projection: AnyProjection<R>,
  rows: Iterable<R>,
): Promise<void> {
  const sorted = [...rows].sort((one, other) => (one.id < other.id ? -1 : 1));
  if (sorted.length === 0) return;
  const names = Object.keys(projection.columns);
  const columns = sql.join(names.map((name) => sql.ref(name)));
  const shape = sql.raw(
    Object.entries(projection.columns)
      .map(([name, type]) => `"${name}" ${type}`)
      .join(', '),
  );
  const changes = sql.join(
    names
      .filter((name) => name !== 'id')
      .map((name) => sql`${sql.ref(name)} = ${sql.ref(`excluded.${name}`)}`),
  );
  await sql`
    INSERT INTO ${sql.table(projection.table)} (${columns})
    SELECT ${columns} FROM jsonb_to_recordset(${JSON.stringify(sorted)}::jsonb) AS given(${shape})
    ON CONFLICT (id) DO UPDATE SET ${changes}
  `.execute(trx);
}
