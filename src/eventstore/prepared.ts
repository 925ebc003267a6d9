import { createHash } from 'node:crypto';
import { CompiledQuery, type RawBuilder, sql } from 'kysely';
import type pg from 'pg';

const MARK = '/* prepared */';

/**
 * Begins a statement that each connection parses and plans once, and then knows by name; Kysely itself names
 * none. Only for statements with one sensible plan whatever their parameters and however the tables grow: the
 * plan of the sixth run is kept. Their texts must be few, since each stays in every connection.
 *
 * @example sql`${prepared} UPDATE checkpoints SET … WHERE …`
 */
export const prepared: RawBuilder<unknown> = sql.raw(MARK);

/** The same for a statement that is a text already: Kysely would put it together anew each time. */
export function preparedQuery(text: string, values: readonly unknown[]): CompiledQuery {
  return CompiledQuery.raw(`${MARK}${text}`, [...values]);
}

/**
 * Makes the connections of a pool name what is marked. Between here and Postgres there may be a pooler, if it
 * keeps track of named statements (PgBouncer from 1.21 on).
 */
export function namePrepared(pool: pg.Pool): void {
  const names = new Map<string, string>();
  pool.on('connect', (client) => {
    const query = client.query.bind(client);
    const value = (first: unknown, ...rest: unknown[]) =>
      Reflect.apply(query, undefined, named(names, first, rest));
    Object.defineProperty(client, 'query', { value, configurable: true });
  });
}

function named(names: Map<string, string>, text: unknown, rest: readonly unknown[]): readonly unknown[] {
  if (typeof text !== 'string' || !text.startsWith(MARK)) return [text, ...rest];
  const name = names.get(text) ?? createHash('sha256').update(text).digest('hex').slice(0, 32);
  names.set(text, name);
  const [values, ...others] = rest;
  return [{ name, text, values }, ...others];
}
