import { type Kysely, sql, type Transaction } from 'kysely';
import type { Database } from '../database.ts';

/** A table like another one, with its key and its settings; its other indexes are made once it is full. */
export async function createTableLike(
  trx: Transaction<Database>,
  table: string,
  model: string,
): Promise<void> {
  await sql`
    CREATE TABLE ${sql.table(table)} (
      LIKE ${sql.table(model)} INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE INCLUDING GENERATED,
      PRIMARY KEY (id)
    )`.execute(trx);
  const { rows } = await sql<{ options: string | null }>`
    SELECT array_to_string(reloptions, ', ') AS options FROM pg_class WHERE oid = ${model}::regclass`.execute(
    trx,
  );
  const options = rows[0]?.options;
  if (options) await sql`ALTER TABLE ${sql.table(table)} SET (${sql.raw(options)})`.execute(trx);
}

/**
 * Gives a table the indexes that another one has, those that it has not got yet, and counts anew what the planner goes by.
 * Blocks who writes into it, and nobody else.
 */
export async function indexLike(db: Kysely<Database>, table: string, model: string): Promise<void> {
  const { rows } = await sql<{ name: string; definition: string }>`
    SELECT c.relname AS name, pg_get_indexdef(i.indexrelid) AS definition
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = ${model}::regclass AND NOT i.indisprimary ORDER BY c.relname`.execute(db);
  for (const { name, definition } of rows) {
    const [, unique = '', rest = ''] =
      /^CREATE (UNIQUE )?INDEX \S+ ON (?:ONLY )?\S+ (.*)$/.exec(definition) ?? [];
    if (rest === '') throw new Error(`index ${name} can't be made again: ${definition}`);
    await sql`
      CREATE ${sql.raw(unique)}INDEX IF NOT EXISTS ${sql.ref(indexName(name, table))}
      ON ${sql.table(table)} ${sql.raw(rest)}`.execute(db);
  }
  await sql`ANALYZE ${sql.table(table)}`.execute(db);
}

/** `jobs_v2_newest`, `jobs_v2_g2_newest` → `jobs_v2_g3_newest` */
function indexName(name: string, table: string): string {
  const view = table.replace(/_g\d+$/, '');
  return `${table}_${name.replace(`${view}_`, '').replace(/^g\d+_/, '')}`;
}

export async function dropTable(db: Kysely<Database>, table: string): Promise<void> {
  await sql`DROP TABLE IF EXISTS ${sql.table(table)}`.execute(db);
}
