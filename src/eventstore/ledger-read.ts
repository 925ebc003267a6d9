import { type Kysely, type Selectable, sql } from 'kysely';
import type { RawEvent } from '../domain/event.ts';
import type { EventId, StreamId } from '../domain/ids.ts';
import type { LedgerTables } from './tables.ts';

const COLUMNS = [
  'partition',
  'epoch',
  'seq',
  'event_id',
  'stream_id',
  'version',
  'type',
  'data',
  'meta',
] as const;
type Row = Pick<Selectable<LedgerTables['ledger']>, (typeof COLUMNS)[number]>;

export type LedgerRange = {
  readonly partition: number;
  /** Events with a higher seq. */
  readonly after: number;
  /** Events up to this seq. Default: all. */
  readonly upTo?: number;
  /** Only this owner's events: the account that may read them. */
  readonly owner?: string;
  readonly limit: number;
};

/** Events of one partition, by seq. */
export async function readLedger(db: Kysely<LedgerTables>, range: LedgerRange): Promise<RawEvent[]> {
  let query = db
    .selectFrom('ledger')
    .select(COLUMNS)
    .where('partition', '=', range.partition)
    .where('seq', '>', range.after)
    .orderBy('seq')
    .limit(range.limit);
  if (range.upTo !== undefined) query = query.where('seq', '<=', range.upTo);
  if (range.owner !== undefined) query = query.where('owner', '=', range.owner);
  return (await query.execute()).map(toEvent);
}

/** A stream's events that the ledger has, by version. The log may hold newer ones. */
export async function readStream(
  db: Kysely<LedgerTables>,
  streamId: StreamId,
  afterVersion = 0,
  limit?: number,
): Promise<RawEvent[]> {
  const query = db
    .selectFrom('ledger')
    .select(COLUMNS)
    .where('stream_id', '=', streamId)
    .where('version', '>', afterVersion)
    .orderBy('version');
  const rows = await (limit === undefined ? query : query.limit(limit)).execute();
  return rows.map(toEvent);
}

function toEvent({ event_id, stream_id, ...row }: Row): RawEvent {
  // Written by the ledger from log entries, which only commits write: ids of the kinds that they are here.
  return { ...row, id: event_id as EventId, streamId: stream_id as StreamId };
}

/**
 * How many events the ledger holds up to a seq in each partition.
 * @param range.limits highest seq to count, by partition
 * @param range.owner only this owner's events
 */
export async function countLedger(
  db: Kysely<LedgerTables>,
  range: { readonly limits: readonly number[]; readonly owner?: string },
): Promise<number> {
  if (range.owner === undefined) return range.limits.reduce((sum, limit) => sum + limit, 0);
  const { rows } = await sql<{ count: number }>`
    SELECT count(*) AS count
    FROM unnest(${range.limits}::bigint[]) WITH ORDINALITY AS upto (seq, place)
    JOIN ledger ON ledger.partition = upto.place - 1 AND ledger.seq <= upto.seq
    WHERE ledger.owner = ${range.owner}`.execute(db);
  return rows[0]?.count ?? 0;
}
