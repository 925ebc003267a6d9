import { type Kysely, type RawBuilder, type SqlBool, sql } from 'kysely';
import type { RawEvent } from '../../domain/event.ts';
import type { EventFilter, Place } from '../../domain/feed.ts';
import type { EventId, StreamId } from '../../domain/ids.ts';
import type { LedgerTables } from '../tables.ts';

/** What the ledger's table says of one partition. */
export type LedgerPart = {
  readonly partition: number;
  /** Up to here events lie in files; those in the table that are before it are not among `events`. */
  readonly archivedTo: number;
  /** Up to where the ledger has the partition. */
  readonly head: Place;
  readonly events: readonly RawEvent[];
};

export type PartRange = { readonly partition: number; readonly after: number; readonly upTo: number };

/** Clocks may differ, and what began early may be recorded late: so far events may lie from where their times are. */
const DISORDER_MS = 600_000;

/**
 * The events of partitions that a filter wants, each by seq, at most `limit` of each; and, of the same moment, how far
 * the ledger and its files go: so nothing is missed that moves from table to file meanwhile.
 */
export async function readParts(
  db: Kysely<LedgerTables>,
  ranges: readonly PartRange[],
  filter: EventFilter,
  limit: number,
): Promise<readonly LedgerPart[]> {
  const { rows } = await sql<Row>`
    SELECT asked.partition, coalesce(files.last_seq, 0) AS archived_to,
      coalesce(head.epoch, 0) AS head_epoch, coalesce(head.seq, 0) AS head_seq,
      found.epoch, found.seq, found.event_id, found.stream_id, found.version, found.type, found.data, found.meta
    FROM unnest(
      ${ranges.map(({ partition }) => partition)}::int[],
      ${ranges.map(({ after }) => after)}::bigint[],
      ${ranges.map(({ upTo }) => Math.min(upTo, Number.MAX_SAFE_INTEGER))}::bigint[]
    ) AS asked (partition, after, up_to)
    LEFT JOIN LATERAL (
      SELECT max(last_seq) AS last_seq FROM ledger_archives AS a WHERE a.partition = asked.partition
    ) AS files ON true
    LEFT JOIN checkpoints AS head ON head.group_name = 'ledger' AND head.partition = asked.partition
    LEFT JOIN LATERAL (
      SELECT * FROM ledger
      WHERE ledger.partition = asked.partition AND ledger.seq <= asked.up_to
        AND ledger.seq > greatest(asked.after, coalesce(files.last_seq, 0)) AND ${conditions(filter)}
      ORDER BY ledger.seq LIMIT ${limit}
    ) AS found ON true
    ORDER BY asked.partition, found.seq`.execute(db);
  const parts = new Map<number, LedgerPart & { events: RawEvent[] }>();
  for (const row of rows) {
    const { partition } = row;
    const part = parts.get(partition) ?? {
      ...{ partition, archivedTo: row.archived_to, head: { epoch: row.head_epoch, seq: row.head_seq } },
      events: [],
    };
    parts.set(partition, part);
    if (row.seq !== null) part.events.push(toEvent(row));
  }
  return [...parts.values()];
}

/**
 * Between which seqs of each partition events of a time lie: no index on times is kept for this, as the seqs of what the
 * table has are dense and nearly in order of time, so that some twenty looks find the place.
 */
export async function seqsOfTimes(
  db: Kysely<LedgerTables>,
  { from, to }: Pick<EventFilter, 'from' | 'to'>,
): Promise<ReadonlyMap<number, { readonly first: number; readonly last: number }>> {
  const [firsts, lasts] = await Promise.all([
    from ? firstSince(db, new Date(from.getTime() - DISORDER_MS)) : undefined,
    to ? firstSince(db, new Date(to.getTime() + DISORDER_MS)) : undefined,
  ]);
  const partitions = new Set([...(firsts?.keys() ?? []), ...(lasts?.keys() ?? [])]);
  return new Map(
    [...partitions].map((partition) => {
      const last = lasts?.get(partition);
      return [
        partition,
        {
          first: firsts?.get(partition)?.seq ?? 0,
          last: last?.found ? last.seq - 1 : Number.POSITIVE_INFINITY,
        },
      ];
    }),
  );
}

/** The first event of each partition's table at or after a time; `found` false: there is none, and `seq` is the head. */
async function firstSince(
  db: Kysely<LedgerTables>,
  time: Date,
): Promise<Map<number, { readonly seq: number; readonly found: boolean }>> {
  const { rows } = await sql<{ partition: number; low: number; high: number; last: number }>`
    WITH RECURSIVE bounds AS (
      SELECT partition, seq AS last, (
        SELECT min(seq) FROM ledger WHERE ledger.partition = checkpoints.partition
      ) AS first
      FROM checkpoints WHERE group_name = 'ledger'
    ), search (partition, low, high, last) AS (
      SELECT partition, first, last + 1, last FROM bounds WHERE first IS NOT NULL
      UNION ALL
      SELECT partition,
        CASE WHEN is_before THEN middle + 1 ELSE low END, CASE WHEN is_before THEN high ELSE middle END, last
      FROM (
        SELECT search.*, (low + high) / 2 AS middle, coalesce((
          SELECT recorded_at < ${time} FROM ledger
          WHERE ledger.partition = search.partition AND ledger.seq = (low + high) / 2
        ), true) AS is_before
        FROM search WHERE low < high
      ) AS step
    )
    SELECT partition, low, high, last FROM search WHERE low = high`.execute(db);
  return new Map(rows.map(({ partition, low, last }) => [partition, { seq: low, found: low <= last }]));
}

function conditions({ type, correlationId, streamId, from, to }: EventFilter): RawBuilder<SqlBool> {
  const all = [sql<SqlBool>`true`];
  if (type !== undefined) all.push(sql`ledger.type = ${type}`);
  if (correlationId !== undefined) all.push(sql`ledger.correlation = ${correlationId}`);
  if (streamId !== undefined) all.push(sql`ledger.stream_id = ${streamId}`);
  if (from !== undefined) all.push(sql`ledger.recorded_at >= ${from}`);
  if (to !== undefined) all.push(sql`ledger.recorded_at < ${to}`);
  return sql.join(all, sql` AND `);
}

type Row = {
  partition: number;
  archived_to: number;
  head_epoch: number;
  head_seq: number;
} & (
  | { seq: null }
  | {
      seq: number;
      epoch: number;
      event_id: string;
      stream_id: string;
      version: number;
      type: string;
      data: string;
      meta: string;
    }
);

function toEvent({
  partition,
  epoch,
  seq,
  event_id,
  stream_id,
  version,
  type,
  data,
  meta,
}: Row & { seq: number }): RawEvent {
  return {
    ...{ partition, epoch, seq, version, type, data, meta },
    // Written by the ledger from log entries, which only commits write.
    ...{ id: event_id as EventId, streamId: stream_id as StreamId },
  };
}
