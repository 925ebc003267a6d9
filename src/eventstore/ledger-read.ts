import { type Kysely, type Selectable, sql } from 'kysely';
import type { RawEvent } from '../domain/event.ts';
import type { EventId, StreamId } from '../domain/ids.ts';
import { ArchivedError, type Archives, archivesOf, nextArchive } from './archive/archives.ts';
import type { ArchivedEvent } from './archive/format.ts';
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
  /** Only events of these types. */
  readonly types?: readonly string[];
  readonly limit: number;
};

/**
 * Events of one partition, by seq, wherever they lie: in the table, or, the oldest, in files.
 * @param archives to read them from; without it, events that lie in files are an `ArchivedError`, never left out
 */
export async function readLedger(
  db: Kysely<LedgerTables>,
  range: LedgerRange,
  archives?: Archives,
): Promise<RawEvent[]> {
  const { partition, owner, types, limit, upTo = Number.POSITIVE_INFINITY } = range;
  const found: RawEvent[] = [];
  let after = range.after;
  let tableFirst = after >= (archives?.knownEnd(partition) ?? 0);
  for (;;) {
    // The table before the archives: what leaves it in between is found there.
    const rows = tableFirst && (await fromTable(db, { ...range, after, limit: limit - found.length }));
    if (rows && owner === undefined && rows[0]?.seq === after + 1) return [...found, ...rows];
    const archive = await nextArchive(db, { ...range, after });
    if (!archive) {
      if (rows) return [...found, ...rows];
      tableFirst = true;
      continue;
    }
    if (!archives) throw new ArchivedError(`events of partition ${partition} after ${after} lie in files`);
    for (const event of await archives.read(archive)) {
      if (event.seq <= after || event.seq > upTo) continue;
      if (types !== undefined && !types.includes(event.type)) continue;
      if (owner === undefined || event.owner === owner) found.push(fromFile(event));
      if (found.length === limit) return found;
    }
    after = archive.last_seq;
    if (after >= upTo) return found;
    tableFirst = after >= archives.knownEnd(partition);
  }
}

async function fromTable(db: Kysely<LedgerTables>, range: LedgerRange): Promise<RawEvent[]> {
  let query = db
    .selectFrom('ledger')
    .select(COLUMNS)
    .where('partition', '=', range.partition)
    .where('seq', '>', range.after)
    .orderBy('seq')
    .limit(range.limit);
  if (range.upTo !== undefined) query = query.where('seq', '<=', range.upTo);
  if (range.owner !== undefined) query = query.where('owner', '=', range.owner);
  if (range.types !== undefined) query = query.where('type', 'in', [...range.types]);
  return (await query.execute()).map(toEvent);
}

export type StreamRange = { readonly after?: number; readonly limit?: number };

/** A stream's events that the ledger has, by version. The log may hold newer ones. @param archives see `readLedger` */
export async function readStream(
  db: Kysely<LedgerTables>,
  streamId: StreamId,
  { after = 0, limit }: StreamRange = {},
  archives?: Archives,
): Promise<RawEvent[]> {
  const query = db
    .selectFrom('ledger')
    .select(COLUMNS)
    .where('stream_id', '=', streamId)
    .where('version', '>', after)
    .orderBy('version');
  const rows = (await (limit === undefined ? query : query.limit(limit)).execute()).map(toEvent);
  if (rows[0]?.version === after + 1) return rows;
  const parts = await archivesOf(db, streamId, after);
  if (parts.length > 0 && !archives) throw new ArchivedError(`events of ${streamId} lie in files`);
  const found: RawEvent[] = [];
  for (const part of parts) {
    for (const event of (await archives?.read(part)) ?? []) {
      if (event.streamId === streamId && event.version > after) found.push(fromFile(event));
    }
    if (limit !== undefined && found.length >= limit) break;
  }
  // Rows that are in a file already, and still in the table.
  const end = found.at(-1)?.version ?? 0;
  return [...found, ...rows.filter(({ version }) => version > end)].slice(0, limit);
}

function fromFile({ owner: _, correlation: __, recordedAt: ___, ...event }: ArchivedEvent): RawEvent {
  return event;
}

function toEvent({ event_id, stream_id, ...row }: Row): RawEvent {
  // Written by the ledger from log entries, which only commits write: ids of the kinds that they are here.
  return { ...row, id: event_id as EventId, streamId: stream_id as StreamId };
}

/**
 * How many events the ledger holds up to a seq in each partition, those in files included: they are counted whole, as
 * whoever counts asks about today.
 * @param range.limits highest seq to count, by partition
 * @param range.owner only this owner's events
 */
export async function countLedger(
  db: Kysely<LedgerTables>,
  range: { readonly limits: readonly number[]; readonly owner?: string },
): Promise<number> {
  if (range.owner === undefined) return range.limits.reduce((sum, limit) => sum + limit, 0);
  const { rows } = await sql<{ count: number }>`
    SELECT count(*) + (
      SELECT coalesce(sum(events), 0)::bigint FROM archived_owners WHERE owner = ${range.owner}
    ) AS count
    FROM unnest(${range.limits}::bigint[]) WITH ORDINALITY AS upto (seq, place)
    JOIN ledger ON ledger.partition = upto.place - 1 AND ledger.seq <= upto.seq
    WHERE ledger.owner = ${range.owner} AND ledger.seq > coalesce(
      (SELECT max(last_seq) FROM ledger_archives AS a WHERE a.partition = ledger.partition), 0
    )`.execute(db);
  return rows[0]?.count ?? 0;
}
