import type { Kysely } from 'kysely';
import type { RawEvent } from '../../domain/event.ts';
import type { EventFilter, FeedPage, Place, Places } from '../../domain/feed.ts';
import { type Archives, nextArchive } from '../archive/archives.ts';
import type { Connection } from '../connections.ts';
import type { Fence } from '../fence.ts';
import { ask } from '../history.ts';
import { LogGapError, readLogAfter } from '../log.ts';
import type { PartitionKeys } from '../partitions.ts';
import type { LedgerTables } from '../tables.ts';
import { timeOf, wanted } from './filter.ts';
import { type LedgerPart, readParts, seqsOfTimes } from './ledger.ts';

export type FeedDeps = {
  readonly db: Kysely<LedgerTables>;
  readonly keys: readonly PartitionKeys[];
  readonly archives?: Archives | undefined;
  /** For the log; absent where Redis is away: then what the ledger has. */
  readonly log?: { readonly connection: Connection; readonly fence: Pick<Fence, 'trusted'> } | undefined;
};

export type FeedRange = {
  /** Of every partition. */
  readonly after: Places;
  readonly filter: EventFilter;
  readonly limit: number;
  /** Only these; default: all. */
  readonly partitions?: readonly number[];
  /** Files and the log are looked through for no longer than this: a page may be short, or empty. Default 2,000. */
  readonly withinMs?: number;
};

const LOG_PAGE = 1_000;

/** What is known of a partition: events not handed out yet, and how far it was looked through. */
type Source = {
  readonly partition: number;
  readonly upTo: number;
  events: RawEvent[];
  /** Of the last event that was handed out, or, with `events` empty, up to where there is no other. */
  place: Place;
  /** Up to where it was looked through. */
  scanned: Place;
  /** Nothing more is to be found now. */
  done: boolean;
};

/**
 * A page of the events of all partitions, from wherever each lies: files, the ledger's table, the log's tail. Page by
 * page nothing is left out and nothing comes twice, whatever is committed, trimmed or archived meanwhile.
 * Throws `StoreUnavailableError` when the ledger can't be read.
 */
export async function readFeed(deps: FeedDeps, range: FeedRange): Promise<FeedPage> {
  const { filter, limit, after } = range;
  const deadline = performance.now() + (range.withinMs ?? 2_000);
  const bounds = filter.from || filter.to ? await ask(() => seqsOfTimes(deps.db, filter)) : undefined;
  const asked = range.partitions ?? after.map((_, partition) => partition);
  const sources = asked.map((partition): Source => {
    const place = after[partition] ?? { epoch: 0, seq: 0 };
    const upTo = bounds?.get(partition)?.last ?? Number.POSITIVE_INFINITY;
    return { partition, upTo, events: [], place, scanned: place, done: place.seq >= upTo };
  });
  const chunk = Math.max(16, Math.ceil((2 * limit) / Math.max(1, sources.length)));
  const starts = new Map([...(bounds ?? [])].map(([partition, { first }]) => [partition, first]));
  const events: RawEvent[] = [];
  let whole = true;
  while (events.length < limit) {
    const unknown = sources.filter((source) => !source.done && source.events.length === 0);
    // When the time is up, what is known goes out: over partitions the order is no promise, and a page that comes is one.
    if (unknown.length > 0 && (performance.now() < deadline || events.length + known(sources) === 0)) {
      whole = (await ask(() => fill(deps, unknown, filter, { chunk, starts, deadline }))) && whole;
      continue;
    }
    const next = earliest(sources);
    if (!next) break;
    events.push(next);
  }
  const end = after.map(
    (place, partition) => sources.find((each) => each.partition === partition)?.place ?? place,
  );
  return { events, end, more: sources.some(({ done, events }) => !done || events.length > 0), whole };
}

const known = (sources: readonly Source[]) => sources.reduce((sum, { events }) => sum + events.length, 0);

/** Takes the event that happened first from its source. */
function earliest(sources: readonly Source[]): RawEvent | undefined {
  let found: Source | undefined;
  for (const source of sources) {
    const [head] = source.events;
    const [best] = found?.events ?? [];
    if (head && (!best || timeOf(head) < timeOf(best))) found = source;
  }
  const event = found?.events.shift();
  if (found && event) found.place = found.events.length > 0 ? event : found.scanned;
  return event;
}

type Filling = {
  readonly chunk: number;
  /** Where the table's events of the wanted time begin. */
  readonly starts: ReadonlyMap<number, number>;
  readonly deadline: number;
};

/** Looks each source through for its next events. @returns false: the log could not be had */
async function fill(
  deps: FeedDeps,
  sources: readonly Source[],
  filter: EventFilter,
  filling: Filling,
): Promise<boolean> {
  const { chunk, starts, deadline } = filling;
  const parts = await readParts(
    deps.db,
    sources.map(({ partition, scanned, upTo }) => ({
      ...{ partition, upTo },
      after: Math.max(scanned.seq, (starts.get(partition) ?? 0) - 1),
    })),
    filter,
    chunk,
  );
  let whole = true;
  // One after another: a file is read as a whole.
  for (const [index, source] of sources.entries()) {
    const part = parts.find(({ partition }) => partition === source.partition);
    if (!part) throw new Error(`the ledger said nothing of partition ${source.partition}`);
    if (part.archivedTo > source.scanned.seq) {
      if (index === 0 || performance.now() < deadline) await fromFiles(deps, source, part, filter, filling);
    } else if (take(source, part.events, chunk, part.head)) {
      if (part.events.length < chunk && part.head.seq >= source.upTo) end(source);
    } else if (part.head.seq >= source.upTo) end(source);
    else whole = (await fromLog(deps, source, filter, filling)) && whole;
  }
  return whole;
}

/** @returns false: fewer than there might be were found, so the source is looked through up to `end` */
function take(source: Source, events: readonly RawEvent[], limit: number, end: Place): boolean {
  source.events.push(...events);
  const last = events.at(-1);
  if (events.length >= limit && last) source.scanned = last;
  else if (end.seq > source.scanned.seq) source.scanned = end;
  if (source.events.length === 0) source.place = source.scanned;
  return events.length > 0;
}

function end(source: Source): true {
  source.done = true;
  return true;
}

async function fromFiles(
  deps: FeedDeps,
  source: Source,
  { archivedTo }: LedgerPart,
  filter: EventFilter,
  { chunk, deadline }: Filling,
): Promise<void> {
  const { from, to } = filter;
  do {
    const after = source.scanned.seq;
    const archive = await nextArchive(deps.db, { partition: source.partition, after });
    if (!archive) break;
    const apart =
      (from && archive.last_at.getTime() < from.getTime()) ||
      (to && archive.first_at.getTime() >= to.getTime());
    const file = apart ? [] : await readFile(deps, archive);
    const events = file.filter((event) => event.seq > after && wanted(filter, event)).slice(0, chunk);
    take(source, events, chunk, { epoch: archive.last_epoch, seq: archive.last_seq });
  } while (source.events.length === 0 && source.scanned.seq < archivedTo && performance.now() < deadline);
}

function readFile({ archives }: FeedDeps, archive: { file: string; sha256: string }) {
  if (!archives) throw new Error(`events lie in the file ${archive.file}, which nobody can read here`);
  return archives.read(archive);
}

/** What the ledger has not got yet. @returns false: it could not be had */
async function fromLog(
  { log, keys: all }: FeedDeps,
  source: Source,
  filter: EventFilter,
  { chunk, deadline }: Filling,
): Promise<boolean> {
  const keys = all[source.partition];
  const trusted = log?.fence.trusted(source.partition);
  if (!keys || !log || !trusted || log.connection.runId() !== trusted.runId) return !end(source);
  try {
    do {
      const page = await readLogAfter(log.connection.redis, keys, source.scanned, LOG_PAGE);
      const last = page.at(-1);
      const events = page.filter((event) => wanted(filter, event)).slice(0, chunk);
      if (last) take(source, events, chunk, last);
      if (page.length < LOG_PAGE && events.length < chunk) return end(source);
    } while (source.events.length === 0 && performance.now() < deadline);
  } catch (error) {
    // Trimmed meanwhile, since the ledger has moved on: it has what is missing, at the next look.
    if (!(error instanceof LogGapError)) throw error;
  }
  return true;
}
