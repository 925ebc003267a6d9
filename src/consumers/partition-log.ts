import type { RawEvent } from '../domain/event.ts';
import type { Connection } from '../eventstore/connections.ts';
import { LogGapError, parseLogEntries } from '../eventstore/log.ts';
import type { PartitionKeys } from '../eventstore/partitions.ts';
import type { Told } from '../eventstore/told.ts';
import { type Checkpoint, StoreUnavailableError } from '../eventstore/types.ts';

/** How long a read at the tail blocks. Its connection's socket timeout must lie above it. */
export const TAIL_BLOCK_MS = 5_000;
const READ_EVENTS = 500;
/** Kept at most for the groups that are a little behind the first of them; who is further behind reads for himself. */
const KEEP_EVENTS = 4_000;
const KEEP_CHARACTERS = 4_000_000;
const READY_WITHIN_MS = 5_000;

/** Events that follow each other without a gap, and the run of the server they were read from. */
export type Batch = { readonly run: string; readonly events: readonly RawEvent[] };

/** One partition's log, as the ordered groups of this process read it. */
export type PartitionLog = {
  /** For one group, from here on. */
  open(): LogReader;
  close(): void;
};

/** Reads one call after the other. */
export type LogReader = {
  /**
   * The events right after `from`, at most `limit`, as the server of that run id has them. At the tail it waits,
   * for a few seconds at most. Undefined: none yet. Throws `LogForkError`, `LogGapError` (missing in log *and*
   * ledger), or what a connection throws; `StoreUnavailableError` also while one speaks to another server.
   */
  next(from: Checkpoint, limit: number, runId: string): Promise<Batch | undefined>;
  /** False after a reconnect: what was read before it may be lost on the server, and must not be applied. */
  isCurrent(batch: Batch): boolean;
  /** Nothing is kept for it any more. */
  close(): void;
};

/** The log holds another event where the checkpoint says that it has read one: history has forked. */
export class LogForkError extends Error {
  override readonly name = 'LogForkError';
}

/**
 * Near the tail all groups share one blocking read and a bounded buffer of what it brought; whoever is further
 * behind reads a range of his own; whoever is behind the log's first entry reads the ledger. Every batch is
 * checked to begin right after the checkpoint and to be dense, wherever it came from.
 *
 * A blocking connection per partition: one multi-key XREAD per process would be fewer connections, but keys of
 * several slots must not share a call in a Cluster, a change of partitions would have to interrupt the call,
 * and a large answer of one partition would hold up all others.
 *
 * @param deps.blocking for this reader alone; closed by `close`
 * @param deps.reader for ranges; shared
 */
export function openPartitionLog(deps: {
  readonly keys: PartitionKeys;
  readonly blocking: Connection;
  readonly reader: Connection;
  /** Of positions, as this process trusts the partition: a recovery begins another at the same server. */
  readonly epoch: () => number | undefined;
  /** Is told how far the log goes. */
  readonly told: Pick<Told, 'note'>;
  readonly readLedger: (partition: number, afterSeq: number, limit: number) => Promise<RawEvent[]>;
}): PartitionLog {
  const { keys, blocking, reader } = deps;
  let run: string | undefined;
  let epoch: number | undefined;
  /** Where the shared read stands; undefined: nobody is at the tail yet. */
  let tail: { epoch: number; seq: number; eventId: string | null } | undefined;
  let kept: RawEvent[] = [];
  /** Of data and metadata of what is kept. */
  let characters = 0;
  /** The seq up to which each reader has read. */
  const places = new Map<LogReader, number>();
  let reading: Promise<void> | undefined;

  /** Drops what was read from another server than the one at the other end now, or before the log was made anew. */
  function dropIfStale(): void {
    const [now, current] = [blocking.runId(), deps.epoch()];
    if (run === now && epoch === current) return;
    run = now;
    epoch = current;
    tail = undefined;
    keepNothing();
  }

  function keepNothing(): void {
    kept = [];
    characters = 0;
  }

  /**
   * Of the last events those that a reader still has before him, and the one before them, which shows whether it is the one that who
   * comes next has read. As many as may be kept: events can be large, and counted alone they would fill the process. For who is
   * further behind the last ones are kept, or he would never come among those who share.
   */
  function keep(events: readonly RawEvent[]): void {
    for (const event of events) {
      kept.push(event);
      characters += sizeOf(event);
    }
    const [first] = kept;
    const read = first ? Math.min(...places.values()) - first.seq : 0;
    let from = 0;
    for (const event of kept) {
      if (from >= read && kept.length - from <= KEEP_EVENTS && characters <= KEEP_CHARACTERS) break;
      characters -= sizeOf(event);
      from++;
    }
    kept.splice(0, from);
  }

  function fromBuffer(from: Checkpoint, limit: number): readonly RawEvent[] {
    const first = kept[0];
    if (!first) return [];
    const index = from.seq + 1 - first.seq;
    if (index < 0 || index >= kept.length) return [];
    assertSame(from, kept[index - 1]);
    return kept.slice(index, index + limit);
  }

  /** With another event there it is none: a range of his own tells who comes with it of the fork. */
  const isTail = ({ epoch, seq, eventId }: Checkpoint) =>
    tail?.seq === seq &&
    tail.epoch === epoch &&
    (tail.eventId === null || eventId === null || tail.eventId === eventId);

  async function readOn(): Promise<void> {
    const start = tail;
    if (!start) return;
    const asked = await blocking.whenReady(READY_WITHIN_MS);
    if (asked !== run) return;
    const reply = await blocking.redis.xread(
      ...(['COUNT', READ_EVENTS, 'BLOCK', TAIL_BLOCK_MS] as const),
      ...(['STREAMS', keys.log, `${start.epoch}-${start.seq}`] as const),
    );
    if (blocking.runId() !== asked || tail !== start) return;
    const events = parseLogEntries(keys.partition, firstStream(reply));
    const last = events.at(-1);
    if (!last || !isDense(start.seq, events)) {
      tail = undefined; // whoever reads on looks at log, head and ledger by a range of his own
      return;
    }
    deps.told.note(keys.partition, last.epoch, last.seq);
    keep(events);
    tail = { epoch: last.epoch, seq: last.seq, eventId: last.id };
  }

  /** A range from the log, else from the ledger. Empty: `from` is the head. */
  async function readRange(from: Checkpoint, limit: number): Promise<Batch> {
    const asked = await reader.whenReady(READY_WITHIN_MS);
    // The head first: an event committed between the two reads would otherwise look like one that is missing.
    // From the checkpoint's own event on, where it is still there: to see that it is the same one.
    const replies = await reader.redis
      .pipeline()
      .hget(keys.meta, 'seq')
      .xrange(keys.log, `${from.epoch}-${from.seq}`, '+', 'COUNT', String(limit + 1))
      .exec();
    const [head, reply] = repliesOf(replies);
    const found = parseLogEntries(keys.partition, reply);
    assertSame(from, found[0]);
    const events = found.filter(({ seq }) => seq > from.seq).slice(0, limit);
    if (events.length > 0 && isDense(from.seq, events)) return { run: asked, events };
    if (events.length === 0 && Number(head ?? 0) <= from.seq) return { run: asked, events: [] };
    const recorded = await deps.readLedger(keys.partition, from.seq, limit);
    if (recorded.length === 0 || !isDense(from.seq, recorded)) {
      throw new LogGapError(
        `partition ${keys.partition}: event ${from.seq + 1} is neither in the log (from ${events[0]?.seq ?? 'nothing'}) nor in the ledger`,
      );
    }
    return { run: asked, events: recorded };
  }

  async function next(from: Checkpoint, limit: number, runId: string): Promise<Batch | undefined> {
    for (;;) {
      await Promise.all([speaksTo(runId, blocking), speaksTo(runId, reader)]);
      dropIfStale();
      const buffered = fromBuffer(from, limit);
      if (run && buffered.length > 0) return { run, events: buffered };
      if (isTail(from)) {
        reading ??= readOn().finally(() => {
          reading = undefined;
        });
        await reading;
        const more = fromBuffer(from, limit);
        if (run && more.length > 0) return { run, events: more };
        return undefined;
      }
      const batch = await readRange(from, limit);
      if (batch.events.length > 0) return batch;
      // At the head: the shared read goes on from here, once the one under way has ended.
      await reading;
      await blocking.whenReady(READY_WITHIN_MS);
      dropIfStale();
      if (!isTail(from) && fromBuffer(from, 1).length === 0) {
        keepNothing();
        tail = from;
      }
    }
  }

  return {
    open() {
      const own: LogReader = {
        next(from, limit, runId) {
          places.set(own, from.seq);
          return next(from, limit, runId);
        },
        isCurrent: ({ run: read }) => read === blocking.runId() && read === reader.runId(),
        close: () => places.delete(own),
      };
      return own;
    },
    close: () => blocking.close(),
  };
}

/**
 * Throws unless the connection's server is the one meant. One that was left behind at another (a master that has
 * become a replica keeps its readers) is made to come after.
 */
async function speaksTo(runId: string, connection: Connection): Promise<void> {
  if ((await connection.whenReady(READY_WITHIN_MS)) === runId) return;
  connection.reconnect();
  throw new StoreUnavailableError(
    'the log was about to be read from another server than the lease was taken at',
  );
}

function sizeOf({ data, meta }: RawEvent): number {
  return data.length + meta.length;
}

function assertSame(from: Checkpoint, event: RawEvent | undefined): void {
  if (!event || event.seq !== from.seq || from.eventId === null || event.id === from.eventId) return;
  throw new LogForkError(
    `partition ${event.partition}: the log holds event ${event.id} at seq ${event.seq}, the checkpoint read ${from.eventId}`,
  );
}

function isDense(after: number, events: readonly RawEvent[]): boolean {
  return events.every((event, index) => event.seq === after + 1 + index);
}

/** Throws the first error of a pipeline. */
function repliesOf(replies: [Error | null, unknown][] | null): unknown[] {
  return (replies ?? []).map(([error, reply]) => {
    if (error) throw error;
    return reply;
  });
}

function firstStream(reply: unknown): unknown {
  if (!Array.isArray(reply)) return [];
  const [first] = reply;
  return Array.isArray(first) ? first[1] : [];
}
