import { type Generated, type Kysely, sql, type Transaction } from 'kysely';
import type { RawEvent } from '../domain/event.ts';
import type { Position } from '../domain/position.ts';
import type { Database } from './database.ts';

export type ParkedEventsTable = {
  group_name: string;
  partition: number;
  seq: number;
  epoch: number;
  row_key: string;
  because: Generated<ParkedBecause>;
  error: string;
  parked_at: Generated<Date>;
};

/** It can't be decoded; the reducer threw; Postgres refuses the row; or an earlier event of its row is parked. */
export type ParkedBecause = 'decode' | 'reducer' | 'row' | 'behind';

/** An event that a projection left out, and why. Its data stays in the ledger. */
export type ParkedEvent = {
  readonly event: RawEvent;
  readonly rowKey: string;
  readonly because: ParkedBecause;
  readonly error: string;
};

/** Of one statement: Postgres takes 65,535 parameters. */
const SLICE = 1_000;

/** Records events as parked, however many. */
export async function parkEvents(
  trx: Transaction<Database>,
  group: string,
  parked: readonly ParkedEvent[],
): Promise<void> {
  const rows = parked.map(({ event, rowKey, because, error }) => ({
    group_name: group,
    partition: event.partition,
    seq: event.seq,
    epoch: event.epoch,
    row_key: rowKey,
    because,
    error: storable(error).slice(0, 1000),
  }));
  for (let from = 0; from < rows.length; from += SLICE)
    await trx
      .insertInto('parked_events')
      .values(rows.slice(from, from + SLICE))
      .execute();
}

/** Whether the group parked the event at any of these positions. */
export async function anyParked(
  db: Kysely<Database>,
  group: string,
  positions: readonly Position[],
): Promise<boolean> {
  const partitions = positions.map((position) => position.partition);
  const seqs = positions.map((position) => position.seq);
  const row = await db
    .selectFrom('parked_events')
    .select('seq')
    .where('group_name', '=', group)
    .where(sql<boolean>`(partition, seq) IN (SELECT * FROM unnest(${partitions}::int[], ${seqs}::bigint[]))`)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** Whether the group parked any event of the partition. */
export async function anyParkedOf(db: Kysely<Database>, group: string, partition: number): Promise<boolean> {
  const row = await db
    .selectFrom('parked_events')
    .select('seq')
    .where('group_name', '=', group)
    .where('partition', '=', partition)
    .limit(1)
    .executeTakeFirst();
  return row !== undefined;
}

/** What an error quotes may be the very thing that Postgres can't hold. */
function storable(text: string): string {
  return text.replaceAll('\0', '').toWellFormed();
}
