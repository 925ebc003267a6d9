import { setTimeout as sleep } from 'node:timers/promises';
import { type Kysely, sql } from 'kysely';
import { openDatabase } from './postgres.ts';

/** A streaming replica of the primary, to be read from. */
export type Replica<Tables> = {
  /** `host:port`, without credentials: for metrics, readiness and logs. */
  readonly name: string;
  readonly db: Kysely<Tables>;
};

export type ReplicaState = {
  readonly name: string;
  /** Whether queries go there that need not include anything. */
  readonly fresh: boolean;
  /** How much older than the primary it may be, at most; undefined: more than can be told. */
  readonly lagMs: number | undefined;
  /** Why nothing goes there. */
  readonly problem: string | undefined;
};

export type Replicas<Tables> = {
  /** Those that can be asked at all, each time another one first; with `fresh`, those not too far behind. */
  fit(fresh: boolean): readonly Replica<Tables>[];
  /** A query failed there, or had no answer: nothing goes there until a look finds it well again. */
  doubt(replica: Replica<Tables>, problem: string): void;
  states(): readonly ReplicaState[];
  close(): Promise<void>;
};

export type ReplicaOptions = {
  readonly urls: readonly string[];
  readonly primaryUrl: string;
  /** Most connections to each. */
  readonly max: number;
  readonly applicationName: string;
  /** Queries that need not include anything go where less than this is missing. */
  readonly maxLagMs: number;
  /** Time between two looks at a replica. Default 250. */
  readonly lookEveryMs?: number;
  /** Told after each look. */
  readonly onLook?: (state: ReplicaState) => void;
  /** Told when a replica is used again (no problem), and when it is no more. */
  readonly onChange?: (name: string, problem: string | undefined) => void;
};

/** A look that takes longer has failed: with the time between looks, what is gone is left out within a second. */
const LOOK_TIMEOUT_MS = 500;
/** For how long it is remembered where the primary's log ended. What is further behind is so for unknown time. */
const REMEMBERED_MS = 60_000;

type Look = { readonly recovering: boolean; readonly system: string; readonly lsn: number };
type Watched<Tables> = Replica<Tables> & {
  readonly looks: Kysely<unknown>;
  problem: string | undefined;
  /** All that the primary had written by then (`performance.now()`) is there. */
  includesUntil: number | undefined;
};

/**
 * Opens replicas and watches them: each is looked at four times a second, and what is away, was promoted, belongs to
 * another system, or holds more than the primary ever wrote, is left out until it is well again.
 *
 * How far one is behind is told by our own clock alone: it is remembered when the primary's log ended where, and a replica
 * that has replayed up to there holds all that was committed by then. (Times that servers tell differ; that of the last
 * replayed commit grows on an idle system as on a replica that is cut off.) What the primary shows before it is flushed
 * (`synchronous_commit=off`) is not in this reckoning.
 */
export function openReplicas<Tables>(options: ReplicaOptions): Replicas<Tables> {
  const { maxLagMs, lookEveryMs = 250, applicationName } = options;
  const forLooks = {
    max: 1,
    applicationName: `${applicationName}-looks`,
    statementTimeoutMs: LOOK_TIMEOUT_MS,
  };
  const quickly = { connectTimeoutMs: LOOK_TIMEOUT_MS };
  const primary = openDatabase<unknown>({ url: options.primaryUrl, ...forLooks, ...quickly });
  const replicas = options.urls.map((url): Watched<Tables> => {
    const { hostname, port } = new URL(url);
    return {
      name: `${hostname}:${port || '5432'}`,
      db: openDatabase<Tables>({ url, max: options.max, applicationName, ...quickly }),
      looks: openDatabase<unknown>({ url, ...forLooks, ...quickly }),
      problem: 'not looked at yet',
      includesUntil: undefined,
    };
  });
  /** Where the primary's log ended, and since when at least; the oldest first. */
  const ends: { readonly at: number; readonly lsn: number }[] = [];
  const closing = new AbortController();
  let turn = 0;

  async function look(replica: Watched<Tables>): Promise<void> {
    try {
      const told = await inTime(lookAt(replica.looks));
      // The primary after the replica: it can't have written less than was replayed before.
      const at = performance.now();
      const main = await inTime(lookAt(primary)).catch(() => undefined);
      if (main) remember(at, main.lsn);
      const problem = problemOf(told, main);
      replica.includesUntil = ends.findLast(({ lsn }) => lsn <= told.lsn)?.at ?? replica.includesUntil;
      setProblem(replica, problem);
    } catch (error) {
      setProblem(replica, error instanceof Error ? error.message : String(error));
    }
    options.onLook?.(stateOf(replica));
  }

  function remember(at: number, lsn: number): void {
    while ((ends[0]?.at ?? at) < at - REMEMBERED_MS) ends.shift();
    // The primary itself went back: what was known of its log is of another history.
    if ((ends.at(-1)?.lsn ?? 0) > lsn) ends.length = 0;
    ends.push({ at, lsn });
  }

  function setProblem(replica: Watched<Tables>, problem: string | undefined): void {
    const was = replica.problem;
    replica.problem = problem;
    if ((was === undefined) !== (problem === undefined)) options.onChange?.(replica.name, problem);
  }

  const lagOf = (replica: Watched<Tables>) =>
    replica.includesUntil === undefined ? undefined : performance.now() - replica.includesUntil;
  const isFresh = (replica: Watched<Tables>) =>
    replica.problem === undefined && (lagOf(replica) ?? Number.POSITIVE_INFINITY) <= maxLagMs;

  const stateOf = (replica: Watched<Tables>): ReplicaState => {
    const { name, problem } = replica;
    return { name, fresh: isFresh(replica), lagMs: lagOf(replica), problem };
  };

  const watching = replicas.map(async (replica) => {
    while (!closing.signal.aborted) {
      await look(replica);
      await sleep(lookEveryMs, undefined, { signal: closing.signal, ref: false }).catch(() => {});
    }
  });

  return {
    fit(fresh) {
      const fit = replicas.filter(fresh ? isFresh : ({ problem }) => problem === undefined);
      if (fit.length < 2) return fit;
      turn = (turn + 1) % fit.length;
      return [...fit.slice(turn), ...fit.slice(0, turn)];
    },
    doubt(replica, problem) {
      const watched = replicas.find(({ db }) => db === replica.db);
      if (watched) setProblem(watched, problem);
    },
    states: () => replicas.map(stateOf),
    async close() {
      closing.abort();
      await Promise.all(watching);
      await Promise.all(
        [primary, ...replicas.flatMap(({ db, looks }) => [db, looks])].map((db) => db.destroy()),
      );
    },
  };
}

/** Why a server is none to be read from; undefined: it is one. */
function problemOf(replica: Look, primary: Look | undefined): string | undefined {
  if (!replica.recovering) return 'it is no replica (any more): it takes writes of its own';
  if (primary === undefined) return undefined; // it is compared when the primary is back
  if (replica.system !== primary.system) return 'it is a replica of another system';
  if (replica.lsn > primary.lsn) return 'it holds more than the primary has written: another history';
  return undefined;
}

async function lookAt(db: Kysely<unknown>): Promise<Look> {
  const { rows } = await sql<Look>`
    SELECT pg_is_in_recovery() AS recovering,
      (SELECT system_identifier::text FROM pg_control_system()) AS system,
      (CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END
        - '0/0'::pg_lsn)::bigint AS lsn`.execute(db);
  const [row] = rows;
  if (!row) throw new Error('no answer');
  return row;
}

async function inTime<T>(answer: Promise<T>): Promise<T> {
  const late = Promise.withResolvers<never>();
  const timer = setTimeout(
    () => late.reject(new Error(`no answer within ${LOOK_TIMEOUT_MS} ms`)),
    LOOK_TIMEOUT_MS,
  );
  return Promise.race([answer, late.promise]).finally(() => clearTimeout(timer));
}
