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
 * @param options.slow may take for ever; `db` is for what may not
 * @param options.signal ends it: what was under way is undone
 */
export async function indexLike(
  { db, slow, signal }: { db: Kysely<Database>; slow: Kysely<Database>; signal: AbortSignal },
  table: string,
  model: string,
): Promise<void> {
  await slow.connection().execute(async (connection) => {
    const { rows } = await sql<{ pid: number }>`SELECT pg_backend_pid() AS pid`.execute(connection);
    const end = () => {
      sql`SELECT pg_cancel_backend(${rows[0]?.pid}::int)`.execute(db).catch(() => {});
    };
    signal.addEventListener('abort', end);
    try {
      await makeIndexes(connection, table, model, signal);
    } finally {
      signal.removeEventListener('abort', end);
    }
  });
}

async function makeIndexes(
  db: Kysely<Database>,
  table: string,
  model: string,
  signal: AbortSignal,
): Promise<void> {
  const { rows } = await sql<{ name: string; definition: string }>`
    SELECT c.relname AS name, pg_get_indexdef(i.indexrelid) AS definition
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE i.indrelid = ${model}::regclass AND NOT i.indisprimary ORDER BY c.relname`.execute(db);
  for (const { name, definition } of rows) {
    const [, unique = '', rest = ''] =
      /^CREATE (UNIQUE )?INDEX \S+ ON (?:ONLY )?\S+ (.*)$/.exec(definition) ?? [];
    signal.throwIfAborted();
    if (rest === '') throw new Error(`index ${name} can't be made again: ${definition}`);
    await sql`
      CREATE ${sql.raw(unique)}INDEX IF NOT EXISTS ${sql.ref(indexName(name, table))}
      ON ${sql.table(table)} ${sql.raw(rest)}`.execute(db);
  }
  signal.throwIfAborted();
  await sql`ANALYZE ${sql.table(table)}`.execute(db);
}

/** `jobs_v2_newest`, `jobs_v2_g2_newest` → `jobs_v2_g3_newest` */
function indexName(name: string, table: string): string {
  const view = table.replace(/_g\d+$/, '');
  return `${table}_${name.replace(`${view}_`, '').replace(/^g\d+_/, '')}`;
}

/** Ends whoever makes indexes of a table, or counts it: the only ones who hold these locks, and for as long as that takes. */
export async function endIndexing(db: Kysely<Database>, table: string): Promise<void> {
  await sql`
    SELECT pg_cancel_backend(pid) FROM pg_locks
    WHERE locktype = 'relation' AND relation = to_regclass(${table}) AND pid <> pg_backend_pid() AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND mode IN ('ShareLock', 'ShareUpdateExclusiveLock')`.execute(db);
}

export async function dropTable(db: Kysely<Database>, table: string): Promise<void> {
  await sql`DROP TABLE IF EXISTS ${sql.table(table)}`.execute(db);
}
