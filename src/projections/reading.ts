import { type Kysely, sql } from 'kysely';
import type { Position } from '../domain/position.ts';
import { pausedGroups } from '../eventstore/pauses.ts';
import type { Replicas } from '../eventstore/replicas.ts';
import { includedIn, type ReadAtLeast, type ReadAtLeastDeps, readAtLeast } from './consistency.ts';
import type { Database } from './database.ts';
import { messageOf } from './fold.ts';
import { groupOf } from './projection.ts';

/** What a query has to include, and how long it may wait for that. */
export type Wanted = {
  /** Of events that the answer must include; none: it may be as old as `REPLICA_LAG_MS` says. */
  readonly positions: readonly Position[];
  readonly timeoutMs: number;
  /** Aborted when nobody waits for it any more. */
  readonly signal: AbortSignal;
  /** It must not be older than what the primary has now. */
  readonly newest?: true;
  /** It is read in a snapshot, so that `onAnswer` is told how far it is. */
  readonly exact?: true;
  /** Told what a later query must include so as not to be older than this answer, where that needs saying. */
  readonly onAnswer?: (at: readonly Position[]) => void;
};

/** Whatever is there will do. */
export const NOTHING_WANTED: Wanted = { positions: [], timeoutMs: 0, signal: new AbortController().signal };

/** The read model does not include what the query has to. */
export class NotIncludedError extends Error {
  override readonly name = 'NotIncludedError';
  readonly outcome: Exclude<ReadAtLeast, 'ok'>;
  readonly timeoutMs: number;
  /** It is behind because an operator has paused it. */
  readonly paused: boolean;
  constructor(outcome: Exclude<ReadAtLeast, 'ok'>, timeoutMs: number, paused = false) {
    super(`the read model is ${outcome}`);
    this.outcome = outcome;
    this.timeoutMs = timeoutMs;
    this.paused = paused;
  }
}

/** The read model that a query is about; with `partitions`, those that its rows are in. */
export type ReadModelQuery = {
  readonly projection: { readonly name: string; readonly version: number; readonly table: string };
  readonly partitions?: readonly number[];
};

/**
 * Runs a query where its answer includes what is wanted. The query may run twice, and reads through what it is given alone.
 * Throws `NotIncludedError`, or what the primary threw; what goes wrong at a replica is asked of the primary.
 */
export type Reading = <T>(
  about: ReadModelQuery,
  wanted: Wanted,
  query: (db: Kysely<Database>) => Promise<T>,
) => Promise<T>;

export type ReadingDeps = ReadAtLeastDeps & {
  /** `db` is the primary's. Undefined: there are none. */
  readonly replicas?: Pick<Replicas<Database>, 'fit' | 'doubt'> | undefined;
  /** Answers may come from elsewhere, too (a cache). */
  readonly alsoElsewhere?: boolean;
  /** Told of each query where its answer came from. */
  readonly onRead?: (projection: string, from: 'primary' | 'replica') => void;
  /** Told of each replica that was asked in vain. */
  readonly onMiss?: (replica: string, because: 'behind' | 'failed' | 'slow') => void;
};

/** What a replica does not answer within this is asked of the primary. */
const SLOW_MS = 1_000;

/** @param at how far the read model was in each partition that the answer is about */
type Answer<T> = { readonly value: T; readonly at: readonly Position[] };
type Ask<T> = (db: Kysely<Database>) => Promise<Answer<T> | 'behind'>;

/** Reads from replicas what they include, and from the primary what they don't. */
export function createReading(deps: ReadingDeps): Reading {
  const { db: primary, replicas } = deps;

  async function fromReplicas<T>(fresh: boolean, ask: Ask<T>): Promise<Answer<T> | undefined> {
    for (const replica of replicas?.fit(fresh) ?? []) {
      try {
        const answer = await soon(ask(replica.db));
        if (typeof answer === 'object') return answer;
        deps.onMiss?.(replica.name, answer);
        // A second was spent: what the first could not do in it the next one hardly can.
        if (answer === 'slow') return undefined;
      } catch (error) {
        // It is gone, restarts, or has to vacuum what was being read: the primary answers, or fails in its own right.
        deps.onMiss?.(replica.name, 'failed');
        if (!isCancelled(error)) replicas?.doubt(replica, messageOf(error));
      }
    }
    return undefined;
  }

  return async <T>(about: ReadModelQuery, wanted: Wanted, query: (db: Kysely<Database>) => Promise<T>) => {
    const { positions, timeoutMs } = wanted;
    const { name } = about.projection;
    // What one server has shown another may lack, so an answer says how far it is. The primary alone never goes back.
    const several = replicas !== undefined || deps.alsoElsewhere;
    const ask: Ask<T> =
      wanted.exact || (positions.length > 0 && several)
        ? (db) => inSnapshot(db, about, positions, query)
        : async (db) => ({ value: await query(db), at: [] });
    const found = wanted.newest ? undefined : await fromReplicas(positions.length === 0, ask);
    if (found) {
      deps.onRead?.(name, 'replica');
      wanted.onAnswer?.(found.at);
      return found.value;
    }
    if (positions.length > 0) {
      const group = groupOf(about.projection);
      const outcome = await readAtLeast(deps, { group, positions, timeoutMs, signal: wanted.signal });
      if (outcome !== 'ok') {
        const paused = outcome === 'behind' && (await pausedGroups(deps.db)).has(group);
        throw new NotIncludedError(outcome, timeoutMs, paused);
      }
    }
    deps.onRead?.(name, 'primary');
    const answer = await ask(primary);
    if (answer === 'behind') throw new NotIncludedError('behind', timeoutMs);
    wanted.onAnswer?.(answer.at);
    return answer.value;
  };
}

/** The query and how far the read model is, as of one moment. */
async function inSnapshot<T>(
  db: Kysely<Database>,
  { projection, partitions }: ReadModelQuery,
  positions: readonly Position[],
  query: (db: Kysely<Database>) => Promise<T>,
): Promise<Answer<T> | 'behind'> {
  return db.connection().execute(async (connection) => {
    try {
      // The lock comes before the snapshot: a view that is moved to another table between the two would show what that
      // table held before it was complete.
      await sql`BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE ${sql.table(projection.table)} IN ACCESS SHARE MODE`.execute(
        connection,
      );
      const { all, at } = await includedIn(connection, groupOf(projection), positions, partitions);
      return all ? { value: await query(connection), at } : 'behind';
    } finally {
      // Ends it also where the lock was not had, or a query failed: on a connection that is given back inside a failed
      // transaction everything fails for whoever has it next. One that is broken is given back to nobody.
      await sql`COMMIT`.execute(connection).catch(() => {});
    }
  });
}

async function soon<T>(answer: Promise<T>): Promise<T | 'slow'> {
  const late = Promise.withResolvers<'slow'>();
  const timer = setTimeout(late.resolve, SLOW_MS, 'slow');
  return Promise.race([answer, late.promise]).finally(() => clearTimeout(timer));
}

/** By the replica itself: `conflict with recovery`, or a statement that took too long. */
function isCancelled(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === '40001' || error.code === '57014');
}
