import type { Kysely } from 'kysely';
import type { RawEvent } from '../../domain/event.ts';
import type { EventCodec } from '../../domain/events.ts';
import type { Archives } from '../../eventstore/archive/archives.ts';
import { moveCheckpoint } from '../../eventstore/checkpoints.ts';
import { readLedger } from '../../eventstore/ledger-read.ts';
import { LogGapError } from '../../eventstore/log.ts';
import type { Checkpoint } from '../../eventstore/types.ts';
import { loadRows, upsertRows } from '../bulk.ts';
import type { Database } from '../database.ts';
import { foldBatch, readBatch } from '../fold.ts';
import type { ReadModel } from '../generations.ts';
import { type ParkedEvent, parkEvents } from '../parked.ts';
import type { AnyRow } from '../projection.ts';
import { applyBatch, PoisonedEventError } from '../runner.ts';
import { isUnwritable } from '../write-singly.ts';

/** Rows of one statement, and how large they may be together: Postgres takes 256 MB in one parameter of its kind. */
const SLICE = 2_000;
const SLICE_CHARACTERS = 8_000_000;
/** So much is read at once: the result of a job may be hundreds of kilobytes. */
const PAGE_CHARACTERS = 4_000_000;

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
  /** And how large they may be together. Default 32,000,000. */
  readonly charactersAtHand?: number;
  /** Most ms between two writes, and so what a crash costs. Default 3,000. */
  readonly writeEveryMs?: number;
};

/**
 * Fills a generation's rows of a partition from the ledger, up to its present end. Rows are kept at hand and written now
 * and then, with the checkpoint, in one transaction: most are written once however many events they have.
 *
 * Throws `FencedError`, `UnknownEventError`, `PoisonedEventError`, `LogGapError` (the ledger lacks an event), or what
 * Postgres threw.
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
  const { charactersAtHand = 32_000_000 } = options;
  const rows = new Map<string, R>();
  const blocked = new Set<string>();
  /** Nothing is in the table but what is at hand. */
  let allAtHand = at.from.seq === 0;
  let unwritten = new Map<string, R>();
  let parked: ParkedEvent[] = [];
  let [written, read] = [at.from, at.from];
  let writtenAt = performance.now();

  let characters = 0;
  const keep = (key: string, row: R) => {
    characters += charactersOf(row) - charactersOf(rows.get(key));
    rows.set(key, row);
  };
  const isTooMuch = () => rows.size > rowsAtHand || characters > charactersAtHand;
  const letGo = () => {
    rows.clear();
    characters = 0;
    allAtHand = false;
  };
  const pageAfter = async (seq: number, limit: number, upTo = Number.POSITIVE_INFINITY) => {
    const range = { partition, after: seq, limit, ...(Number.isFinite(upTo) ? { upTo } : {}) };
    const events = await readLedger(db, range, options.archives);
    if (events.some((event, index) => event.seq !== seq + 1 + index))
      throw new LogGapError(`partition ${partition}: the ledger lacks events after ${seq}`);
    return events;
  };
  const write = async () => {
    if (read.seq === written.seq) return;
    const move = { group: model.group, partition, from: written, to: read, token };
    const together = db.transaction().execute(async (trx) => {
      await moveCheckpoint(trx, move);
      for (const slice of slices(unwritten)) await upsertRows(trx, model, slice);
      await parkEvents(trx, model.group, parked);
    });
    await together.catch(async (error: unknown) => {
      if (!isUnwritable(error)) throw error;
      await writeByPage();
    });
    written = read;
    writtenAt = performance.now();
    unwritten = new Map();
    parked = [];
    if (isTooMuch()) letGo();
  };
  /** A row can't be written: what is at hand is applied again as live batches are, which find the event and park it. */
  const writeByPage = async () => {
    letGo();
    while (written.seq < read.seq) {
      const events = await pageAfter(written.seq, page, read.seq);
      const given = { partition, from: written, events, token };
      written = (await applyBatch(db, model, codec, given, { parks: options.parks })).to;
    }
  };
  const apply = async (events: readonly RawEvent[]) => {
    const batch = readBatch(model.projection, codec, events);
    if (!allAtHand) {
      const missing = batch.map(({ key }) => key).filter((key) => !rows.has(key));
      const loaded = await loadRows(db, model, [...new Set(missing)]);
      for (const [key, row] of loaded.rows) keep(key, row);
      for (const key of loaded.blocked) blocked.add(key);
    }
    const folded = foldBatch(model.projection, batch, { rows, blocked });
    const [poisoned] = folded.parked;
    if (poisoned && !options.parks) throw new PoisonedEventError(poisoned);
    for (const { rowKey } of folded.parked) blocked.add(rowKey);
    parked.push(...folded.parked);
    for (const [key, row] of folded.rows) {
      keep(key, row);
      unwritten.set(key, row);
    }
  };

  let limit = page;
  let next = pageAfter(read.seq, limit);
  while (!signal.aborted) {
    const events = await next;
    const last = events.at(-1);
    if (!last) break;
    const begun = performance.now();
    // Read while these are folded. What it throws is thrown when it is waited for.
    const isLast = events.length < limit;
    limit = Math.min(page, Math.max(1, Math.floor((events.length * PAGE_CHARACTERS) / sizeOf(events))));
    next = pageAfter(last.seq, limit);
    next.catch(() => {});
    await apply(events);
    read = { epoch: last.epoch, seq: last.seq, eventId: last.id };
    const due = performance.now() - writtenAt > writeEveryMs;
    if (due || unwritten.size >= rowsAtHand / 2 || isTooMuch()) await write();
    await options.pace(performance.now() - begun);
    if (isLast) break;
  }
  await next.catch(() => {});
  await write();
  return written;
}

/** At least one row each. */
function* slices<R extends AnyRow>(rows: ReadonlyMap<string, R>): Generator<ReadonlyMap<string, R>> {
  let slice = new Map<string, R>();
  let characters = 0;
  for (const [key, row] of rows) {
    const more = charactersOf(row);
    if (slice.size === SLICE || (slice.size > 0 && characters + more > SLICE_CHARACTERS)) {
      yield slice;
      slice = new Map();
      characters = 0;
    }
    slice.set(key, row);
    characters += more;
  }
  if (slice.size > 0) yield slice;
}

function charactersOf(row: AnyRow | undefined): number {
  let characters = 0;
  for (const value of Object.values(row ?? {})) if (typeof value === 'string') characters += value.length;
  return characters;
}

function sizeOf(events: readonly RawEvent[]): number {
  return events.reduce((sum, { data, meta }) => sum + data.length + meta.length, 0);
}
