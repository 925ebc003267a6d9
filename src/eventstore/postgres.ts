import { Kysely, PostgresDialect } from 'kysely';
import pg from 'pg';
import { namePrepared } from './prepared.ts';
import { surviveBreaks } from './silence.ts';

export type DatabaseOptions = {
  /** `postgres://…`; its query parameters may not name what is named here. */
  readonly url: string;
  /** Most connections at once. */
  readonly max: number;
  /** Shown in `pg_stat_activity`, to tell roles apart. */
  readonly applicationName: string;
  /** Longest a statement may run. Default 15,000; 0 for none (migrations, exports). */
  readonly statementTimeoutMs?: number;
  /** Longest a statement may wait for a lock. Default 5,000; 0 for none. */
  readonly lockTimeoutMs?: number;
  /** Longest a transaction may sit idle, holding its locks. Default 15,000. */
  readonly idleInTransactionTimeoutMs?: number;
  /** Longest to wait for a connection. Default 5,000. */
  readonly connectTimeoutMs?: number;
  /** An idle connection broke. The pool replaces it; without a listener the process would end. */
  readonly onError?: (error: Error) => void;
};

/** How much later than its time limit a statement's answer may come before its connection is given up. */
const ANSWER_MARGIN_MS = 5_000;
const INT8 = 20;
const INT8_ARRAY = 1016;

/**
 * A pool of its own, as Kysely. `bigint` is read as a number in this pool only: seqs stay far below 2^53, and
 * whoever else uses pg in this process keeps its parsers. A `bigint` beyond 2^53 throws.
 *
 * The pool is as large as `max` says: a `?max=` in the URL is refused, because pg would take it, as text,
 * over the option (measured: `?max=16` gave one connection).
 */
export function openDatabase<Tables>(options: DatabaseOptions): Kysely<Tables> {
  return new Kysely<Tables>({ dialect: new PostgresDialect({ pool: openPool(options) }) });
}

/** The pool that `openDatabase` wraps, for what needs pg itself (COPY, a cursor). */
export function openPool(options: DatabaseOptions): pg.Pool {
  const statementTimeoutMs = options.statementTimeoutMs ?? 15_000;
  const pool = new pg.Pool({
    connectionString: withoutPoolOptions(options.url),
    max: options.max,
    application_name: options.applicationName,
    statement_timeout: statementTimeoutMs,
    lock_timeout: options.lockTimeoutMs ?? 5_000,
    idle_in_transaction_session_timeout: options.idleInTransactionTimeoutMs ?? 15_000,
    connectionTimeoutMillis: options.connectTimeoutMs ?? 5_000,
    keepAlive: true,
    types: { getTypeParser },
  });
  pool.on('error', options.onError ?? (() => {}));
  namePrepared(pool);
  surviveBreaks(pool, statementTimeoutMs > 0 ? statementTimeoutMs + ANSWER_MARGIN_MS : undefined);
  return pool;
}

const getTypeParser: typeof pg.types.getTypeParser = (oid: number, format?: string) => {
  if (oid === INT8) return safeInteger;
  if (oid === INT8_ARRAY) return safeIntegers;
  return format === 'binary' ? pg.types.getTypeParser(oid, 'binary') : pg.types.getTypeParser(oid, 'text');
};

function safeInteger(text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value)) throw new RangeError(`${text} is beyond what a number holds exactly`);
  return value;
}

function safeIntegers(text: string): (number | null)[] {
  const items = text.slice(1, -1);
  if (items === '') return [];
  return items.split(',').map((item) => (item === 'NULL' ? null : safeInteger(item)));
}

const OURS = ['max', 'min', 'application_name', 'statement_timeout', 'lock_timeout'];

function withoutPoolOptions(url: string): string {
  const parsed = new URL(url);
  for (const name of OURS) {
    if (parsed.searchParams.has(name)) {
      throw new Error(`the database's URL may not set "${name}": it is set by the application`);
    }
  }
  return url;
}
