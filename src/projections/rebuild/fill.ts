import type { Kysely } from 'kysely';
import type { RawEvent } from '../../domain/event.ts';
import type { EventCodec } from '../../domain/events.ts';
import type { Archives } from '../../eventstore/archive/archives.ts';
import { moveCheckpoint } from '../../eventstore/checkpoints.ts';
import { readLedger } from '../../eventstore/ledger-read.ts';
import type { Checkpoint } from '../../eventstore/types.ts';
import { loadRows, upsertRows } from '../bulk.ts';
import type { Database } from '../database.ts';
import { foldBatch, readBatch } from '../fold.ts';
import type { ReadModel } from '../generations.ts';
import { type ParkedEvent, parkEvents } from '../parked.ts';
import type { AnyRow } from '../projection.ts';
import { PoisonedEventError } from '../runner.ts';

/** Rows of one statement. */
const SLICE = 2_000;

export type FillOptions = {
  readonly archives?: Archives | undefined;
  /** Else an event that can't be applied is a `PoisonedEventError`. */
  readonly parks: boolean;
  /** Waits where others need the machine. Given the ms that the page took. */
  readonly pace: (ms: number) => Promise<void>;
  readonly signal: AbortSignal;
  /** Events that are read at once. Default 1,000. */
  readonly page?: number;
  /** Most rows that are kept at hand. Default 40,000. */
  readonly rowsAtHand?: number;
  /** Most ms between two writes, and so what a crash costs. Default 3,000. */
  readonly writeEveryMs?: number;
};

/**
 * Fills a generation's rows of a partition from the ledger, up to its present end. Rows are kept at hand and written now
 * and then, with the checkpoint, in one transaction: most are written once however many events they have.
 *
 * Throws `FencedError`, `UnknownEventError`, `PoisonedEventError`, or what Postgres threw.
 */
export async function fillPartition<R extends AnyRow>(
  db: Kysely<Database>,
  model: ReadModel<R>,
  codec: EventCodec,
  at: { readonly partition: number; readonly from: Checkpoint; readonly token: number },
  options: FillOptions,
): Promise<Checkpoint> {
  const { partition, token } = at;
  const { signal, page = 1_000, rowsAtHand = 40_000, writeEveryMs = 3_000 } = options;
  const rows = new Map<string, R>();
  const blocked = new Set<string>();
  /** Nothing is in the table but what is at hand. */
  let allAtHand = at.from.seq === 0;
  let unwritten = new Map<string, R>();
  let parked: ParkedEvent[] = [];
  let [written, read] = [at.from, at.from];
  let writtenAt = performance.now();

  const pageAfter = (seq: number) => readLedger(db, { partition, after: seq, limit: page }, options.archives);
  const write = async () => {
    if (read.seq === written.seq) return;
    const move = { group: model.group, partition, from: written, to: read, token };
    await db.transaction().execute(async (trx) => {
      await moveCheckpoint(trx, move);
      for (const slice of slices(unwritten)) await upsertRows(trx, model, slice);
      await parkEvents(trx, model.group, parked);
    });
    written = read;
    writtenAt = performance.now();
    unwritten = new Map();
    parked = [];
    if (rows.size > rowsAtHand) {
      rows.clear();
      allAtHand = false;
    }
  };
  const apply = async (events: readonly RawEvent[]) => {
    const batch = readBatch(model.projection, codec, events);
    if (!allAtHand) {
      const missing = batch.map(({ key }) => key).filter((key) => !rows.has(key));
      const loaded = await loadRows(db, model, [...new Set(missing)]);
      for (const [key, row] of loaded.rows) rows.set(key, row);
      for (const key of loaded.blocked) blocked.add(key);
    }
    const folded = foldBatch(model.projection, batch, { rows, blocked });
    const [poisoned] = folded.parked;
    if (poisoned && !options.parks) throw new PoisonedEventError(poisoned);
    for (const { rowKey } of folded.parked) blocked.add(rowKey);
    parked.push(...folded.parked);
    for (const [key, row] of folded.rows) {
      rows.set(key, row);
      unwritten.set(key, row);
    }
  };

  let next = pageAfter(read.seq);
  while (!signal.aborted) {
    const events = await next;
    const last = events.at(-1);
    if (!last) break;
    const begun = performance.now();
    // Read while these are folded. What it throws is thrown when it is waited for.
    next = pageAfter(last.seq);
    next.catch(() => {});
    await apply(events);
    read = { epoch: last.epoch, seq: last.seq, eventId: last.id };
    const due = performance.now() - writtenAt > writeEveryMs;
    if (due || unwritten.size >= rowsAtHand / 2 || rows.size > rowsAtHand) await write();
    await options.pace(performance.now() - begun);
    if (events.length < page) break;
  }
  await next.catch(() => {});
  await write();
  return written;
}

function* slices<R>(rows: ReadonlyMap<string, R>): Generator<ReadonlyMap<string, R>> {
  const all = [...rows];
  for (let from = 0; from < all.length; from += SLICE) yield new Map(all.slice(from, from + SLICE));
}
