import { type Kysely, sql } from 'kysely';
import type { DomainEventType } from '../domain/events.ts';
import type { StreamId } from '../domain/ids.ts';
import { LEDGER_GROUP, readCheckpoint } from '../eventstore/checkpoints.ts';
import type { OpenEventStore } from '../eventstore/store.ts';
import type { LedgerTables } from '../eventstore/tables.ts';
import type { Logger } from '../telemetry/logging.ts';

/** An event after which a stream changes no more by itself; a job may be retried, so only if it is the last one. */
const FINAL: readonly DomainEventType[] = [
  'JobCompleted',
  'JobDeadLettered',
  'JobDiscarded',
  'JobCancelled',
  'ExportRequested',
  'SessionEnded',
  'ScheduleDeleted',
  'OperationRecorded',
];
/** Rows of the ledger looked at in one statement. */
const SCAN = 10_000;
/** Sessions looked at in one: none of them is in a hurry. */
const SESSIONS = 200;

export type TrimmerDeps = {
  readonly db: Kysely<LedgerTables>;
  readonly store: Pick<OpenEventStore, 'maintain' | 'keys' | 'reader'>;
  /** Events that stay in the log though the ledger has them: more than Postgres could lose in its own failover. */
  readonly windowEvents: number;
  /** Events stay at least this long after the ledger took them. */
  readonly retentionMs: number;
  /** A session that nobody refreshes for so long is over, and no event says so. Default: for ever. */
  readonly sessionLifetimeMs?: number;
};

/**
 * Shrinks a partition in Redis to what the ledger does not hold for good: trims the log, and evicts the states of
 * streams that have come to their end, or of sessions that nobody refreshed. Gated by the ledger's checkpoint as Postgres has it, and by nothing else: no group can hold the
 * log hostage, as who is behind reads the ledger.
 */
export type Trimmer = {
  trim(partition: number): Promise<{ readonly evicted: number; readonly trimmed: number }>;
};

export function createTrimmer(deps: TrimmerDeps): Trimmer {
  /** Up to which seq states were evicted, by partition. */
  const evictedTo = new Map<number, number>();
  /** The last session that was looked at, by partition: round and round. */
  const lookedAt = new Map<number, string>();

  async function abandoned(partition: number): Promise<StreamId[]> {
    if (deps.sessionLifetimeMs === undefined) return [];
    const { last, over } = await abandonedSessions(deps.db, {
      ...{ partition, after: lookedAt.get(partition) ?? '' },
      afterMs: deps.sessionLifetimeMs,
    });
    lookedAt.set(partition, last);
    return over;
  }

  return {
    async trim(partition) {
      const checkpoint = await readCheckpoint(deps.db, LEDGER_GROUP, partition);
      if (!checkpoint || checkpoint.seq === 0) return { evicted: 0, trimmed: 0 };
      const from = evictedTo.get(partition) ?? (await evictedBefore(deps, partition));
      const upTo = Math.min(checkpoint.seq, from + SCAN);
      const [finished, sessions, trimTo] = await Promise.all([
        finishedStreams(deps.db, partition, from, upTo),
        abandoned(partition),
        trimPoint(deps, partition, checkpoint.seq),
      ]);
      const done = await deps.store.maintain({
        partition,
        heldSeq: checkpoint.seq,
        evict: [...finished, ...sessions],
        ...(trimTo ? { trimTo } : {}),
      });
      evictedTo.set(partition, upTo);
      return done;
    },
  };
}

/** Trims what `partitions` names, every `everyMs`. */
export function startTrimmer(
  deps: TrimmerDeps & {
    readonly partitions: () => readonly number[];
    readonly everyMs: number;
    readonly logger: Logger;
  },
): { stop(): Promise<void> } {
  const trimmer = createTrimmer(deps);
  let underWay: Promise<void> | undefined;
  async function round(): Promise<void> {
    for (const partition of deps.partitions()) {
      await trimmer.trim(partition).catch((err: unknown) => {
        deps.logger.warn({ err, partition }, 'the log could not be trimmed');
      });
    }
  }
  const timer = setInterval(() => {
    underWay ??= round().finally(() => {
      underWay = undefined;
    });
  }, deps.everyMs);
  return {
    async stop() {
      clearInterval(timer);
      await underWay;
    },
  };
}

async function evictedBefore({ store }: TrimmerDeps, partition: number): Promise<number> {
  const keys = store.keys[partition];
  return keys ? Number((await store.reader.redis.hget(keys.meta, 'evicted')) ?? 0) : 0;
}

async function finishedStreams(
  db: Kysely<LedgerTables>,
  partition: number,
  after: number,
  upTo: number,
): Promise<StreamId[]> {
  const rows = await db
    .selectFrom('ledger')
    .select('stream_id')
    .where('partition', '=', partition)
    .where('seq', '>', after)
    .where('seq', '<=', upTo)
    .where('type', 'in', FINAL)
    .where(({ not, exists, selectFrom }) =>
      not(
        exists(
          selectFrom('ledger as later')
            .select('later.seq')
            .whereRef('later.stream_id', '=', 'ledger.stream_id')
            .whereRef('later.version', '>', 'ledger.version'),
        ),
      ),
    )
    .orderBy('seq')
    .execute();
  return [...new Set(rows.map(({ stream_id }) => stream_id as StreamId))];
}

/** Wherever their events lie: files may have them by the time that they are over. */
async function abandonedSessions(
  db: Kysely<LedgerTables>,
  { partition, after, afterMs }: { partition: number; after: string; afterMs: number },
): Promise<{ readonly last: string; readonly over: StreamId[] }> {
  const all = `ses-${partition.toString(36).padStart(2, '0')}`;
  const { rows } = await sql<{ id: StreamId; is_over: boolean | null }>`
    SELECT h.stream_id AS id, (
      SELECT b.appended_at FROM ledger_batches b WHERE b.partition = ${partition} AND b.last_seq >= h.seq
      ORDER BY b.last_seq LIMIT 1
    ) < now() - ${afterMs} * interval '1 ms' AS is_over
    FROM (
      SELECT stream_id, seq FROM stream_heads
      WHERE stream_id > ${after === '' ? all : after} AND stream_id < ${`${all}~`} ORDER BY stream_id LIMIT ${SESSIONS}
    ) AS h ORDER BY h.stream_id`.execute(db);
  const over = rows.flatMap(({ id, is_over }) => (is_over ? [id] : []));
  return { last: rows.length < SESSIONS ? '' : (rows.at(-1)?.id ?? ''), over };
}

/** The newest event that may leave the log; undefined: none. */
async function trimPoint(
  { db, windowEvents, retentionMs }: TrimmerDeps,
  partition: number,
  heldSeq: number,
): Promise<{ epoch: number; seq: number } | undefined> {
  const beyondWindow = heldSeq - windowEvents;
  if (beyondWindow <= 0) return undefined;
  // Batches tell when the ledger took what, by Postgres' clock, and are few. Ours may be off by anything.
  const batch = await db
    .selectFrom('ledger_batches')
    .select('last_seq')
    .where('partition', '=', partition)
    .where('first_seq', '<=', beyondWindow)
    .where('appended_at', '<=', sql<Date>`now() - ${retentionMs} * interval '1 ms'`)
    .orderBy('last_seq', 'desc')
    .limit(1)
    .executeTakeFirst();
  if (!batch) return undefined;
  const seq = Math.min(batch.last_seq, beyondWindow);
  const row = await db
    .selectFrom('ledger')
    .select(['epoch', 'seq'])
    .where('partition', '=', partition)
    .where('seq', '=', seq)
    .executeTakeFirst();
  return row ?? archivedBefore(db, partition, seq);
}

/** Where that event lies in a file: the end of the last file before it. */
function archivedBefore(db: Kysely<LedgerTables>, partition: number, seq: number) {
  return db
    .selectFrom('ledger_archives')
    .select(['last_epoch as epoch', 'last_seq as seq'])
    .where('partition', '=', partition)
    .where('last_seq', '<=', seq)
    .orderBy('last_seq', 'desc')
    .limit(1)
    .executeTakeFirst();
}
