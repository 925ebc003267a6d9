import { type Kysely, sql } from 'kysely';
import { formatPosition } from '../domain/position.ts';
import type { Database } from './database.ts';

/** An event that a read model left out, as an operator sees it. */
export type ParkedView = {
  readonly position: string;
  /** Of the event; absent where its row of the ledger lies in a file. */
  readonly type?: string;
  readonly streamId?: string;
  /** Key of the row that misses it. */
  readonly row: string;
  readonly error: string;
  /** RFC 3339. */
  readonly parkedAt: string;
};

/** The events that a group has parked, of each partition in order; the first of a row is what the others wait for. */
export async function listParked(
  db: Kysely<Database>,
  group: string,
  range: {
    readonly after?: { readonly partition: number; readonly seq: number } | undefined;
    readonly limit: number;
  },
): Promise<ParkedView[]> {
  const { partition = -1, seq = 0 } = range.after ?? {};
  const rows = await db
    .selectFrom('parked_events as parked')
    .leftJoin('ledger', (join) =>
      join.onRef('ledger.partition', '=', 'parked.partition').onRef('ledger.seq', '=', 'parked.seq'),
    )
    .select([
      'parked.partition',
      'parked.seq',
      'parked.epoch',
      'row_key',
      'error',
      'parked_at',
      'type',
      'stream_id',
    ])
    .where('group_name', '=', group)
    .where(sql<boolean>`(parked.partition, parked.seq) > (${partition}::int, ${seq}::bigint)`)
    .orderBy('parked.partition')
    .orderBy('parked.seq')
    .limit(range.limit)
    .execute();
  return rows.map(({ row_key, error, parked_at, type, stream_id, ...position }) => ({
    position: formatPosition(position),
    ...(type === null ? {} : { type }),
    ...(stream_id === null ? {} : { streamId: stream_id }),
    row: row_key,
    error,
    parkedAt: parked_at.toISOString(),
  }));
}
