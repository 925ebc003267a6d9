import type { Redis } from 'ioredis';
import { type Kysely, sql } from 'kysely';
import type { RawEvent } from '../../domain/event.ts';
import { LEDGER_GROUP, readCheckpoint } from '../../eventstore/checkpoints.ts';
import { readLedger } from '../../eventstore/ledger-read.ts';
import { parseLogEntries } from '../../eventstore/log.ts';
import type { PartitionKeys } from '../../eventstore/partitions.ts';
import type { LedgerTables } from '../../eventstore/tables.ts';
import type { OrderedGroup } from '../../eventstore/types.ts';
import type { LedgerSource } from './unfinished.ts';

const PAGE = 500;

/** What a partition's log still holds that the ledger lacks. */
export type Salvage = {
  readonly partition: number;
  /** Up to here the ledger holds everything. */
  readonly ledgerSeq: number;
  /** Events that go on where the ledger ends: it takes them over. */
  readonly whole: number;
  /** Events that can't be placed: another history, or one with a gap. They are put aside. */
  readonly strange: number;
};

/**
 * Goes through what the log of a partition holds beyond the ledger, or beside it.
 * @param deal is given each piece, in order: nothing more is read until it has dealt with it
 */
export async function salvage(
  { db, archives }: LedgerSource,
  redis: Redis,
  keys: PartitionKeys,
  deal: (piece: {
    readonly kind: 'whole' | 'strange';
    readonly events: readonly RawEvent[];
  }) => Promise<void>,
): Promise<Salvage> {
  const { partition } = keys;
  const ledgerSeq = (await readCheckpoint(db, LEDGER_GROUP, partition))?.seq ?? 0;
  let [next, whole, strange] = [ledgerSeq + 1, 0, 0];
  /** From the first event on that is another than the ledger's, or follows a gap, nothing can be placed any more. */
  let isStrange = false;
  for await (const page of pages(redis, keys)) {
    const known = await knownOf({ db, archives }, partition, page, ledgerSeq);
    const pieces = { whole: [] as RawEvent[], strange: [] as RawEvent[] };
    for (const event of page) {
      const isKnown = event.seq <= ledgerSeq;
      if (isKnown ? known.get(event.seq) !== event.id : event.seq !== next) isStrange = true;
      if (isStrange) pieces.strange.push(event);
      else if (!isKnown) {
        pieces.whole.push(event);
        next++;
      }
    }
    for (const kind of ['whole', 'strange'] as const) {
      if (pieces[kind].length > 0) await deal({ kind, events: pieces[kind] });
    }
    whole += pieces.whole.length;
    strange += pieces.strange.length;
  }
  return { partition, ledgerSeq, whole, strange };
}

/** Appends to the ledger, as its own group does. */
export function takeOverInto(ledger: OrderedGroup, db: Kysely<LedgerTables>) {
  return async (events: readonly RawEvent[]): Promise<void> => {
    const partition = events[0]?.partition;
    if (partition === undefined) return;
    const { rows } = await sql<{ token: number }>`SELECT nextval('fencing_tokens') AS token`.execute(db);
    const token = Number(rows[0]?.token);
    const from = await ledger.open(partition, token);
    await ledger.apply(partition, from, events, token);
  };
}

/** Kept for people to look at: nothing reads them. An event that was put aside before is not put there again. */
export async function putAside(db: Kysely<LedgerTables>, events: readonly RawEvent[]): Promise<void> {
  await db
    .insertInto('quarantined_events')
    .values(
      events.map(({ partition, epoch, seq, id, streamId, version, type, data, meta }) => ({
        ...{ partition, epoch, seq, event_id: id, stream_id: streamId, version, type },
        data: data.replaceAll('\u0000', '\\u0000').toWellFormed(),
        meta: meta.replaceAll('\u0000', '\\u0000').toWellFormed(),
      })),
    )
    .onConflict((conflict) => conflict.columns(['partition', 'event_id']).doNothing())
    .execute();
}

async function* pages(redis: Redis, keys: PartitionKeys): AsyncGenerator<readonly RawEvent[]> {
  for (let from = '-'; ; ) {
    const entries = await redis.xrange(keys.log, from, '+', 'COUNT', PAGE);
    if (entries.length > 0) yield parseLogEntries(keys.partition, entries);
    const last = entries.at(-1)?.[0];
    if (entries.length < PAGE || last === undefined) return;
    from = `(${last}`;
  }
}

async function knownOf(
  { db, archives }: LedgerSource,
  partition: number,
  page: readonly RawEvent[],
  upTo: number,
): Promise<ReadonlyMap<number, string>> {
  const [first, last] = [page[0]?.seq ?? 0, page.at(-1)?.seq ?? 0];
  if (first > upTo) return new Map();
  const range = { partition, after: first - 1, upTo: Math.min(last, upTo), limit: PAGE };
  const rows = await readLedger(db, range, archives);
  return new Map(rows.map(({ seq, id }) => [seq, id]));
}
