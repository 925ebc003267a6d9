import { UnknownEventError } from '../domain/events.ts';
import { LEDGER_GROUP } from '../eventstore/checkpoints.ts';
import { LogGapError } from '../eventstore/log.ts';
import {
  type Checkpoint,
  FencedError,
  type OrderedGroup,
  StoreUnavailableError,
} from '../eventstore/types.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { backoffMs, pause, untilAborted } from './backoff.ts';
import type { Hints } from './hints.ts';
import type { Lease } from './leases.ts';
import { LedgerForkError } from './ledger-errors.ts';
import { BATCH_EVENTS, FEW_EVENTS, nextBatch } from './next-batch.ts';
import type { Ended, Group } from './ownership.ts';
import { type Batch, LogForkError, type PartitionLog } from './partition-log.ts';
import type { PausedGroups } from './paused-groups.ts';

/** Batches that were full are followed by larger ones, up to here: who is behind comes on faster so. */
const MOST_EVENTS = 4_000;
/** How long a process stays away from what newer code should take. */
const YIELD_MS = 60_000;
/** After an alarm it looks again sooner: an operator may have set it right. */
const ALARM_MS = 15_000;
const RETRY = { baseMs: 100, capMs: 3_000 };
const GATHER_MS_PER_EVENT = 3;
const GATHER_MS = 80;
/** One of the two connections is back before the other. */
const RECONNECTING_MS = 20;

/** Where a group stands in a partition: read by the lag metrics. */
export type Standing = {
  readonly group: string;
  readonly partition: number;
  /** Of the lease; Postgres has it beside the checkpoint. */
  readonly token: number;
  checkpoint: Checkpoint;
  /** It stands there because an operator wants it to. */
  paused: boolean;
  /** Postgres has less than it has read: it has to begin anew from there. */
  isSetBack?: boolean;
};

export type ReaderDeps = {
  /** The partition's shared log; `release` when the reader has ended. */
  readonly logOf: (partition: number) => { readonly value: PartitionLog; readonly release: () => void };
  /** Run id of the server that leases are taken at now; undefined: it is away. */
  readonly server: () => string | undefined;
  readonly standings: Set<Standing>;
  readonly paused: Pick<PausedGroups, 'has' | 'untilTold'>;
  readonly hints: Hints;
  readonly logger: Logger;
  readonly metrics: Pick<Metrics, 'groupStops' | 'groupRetries'>;
};

/** An ordered group, to be run under leases: one loop for each partition that it owns. */
export function orderedReader(deps: ReaderDeps, group: OrderedGroup): Group {
  return {
    name: group.name,
    start(lease) {
      const stop = new AbortController();
      return {
        ended: read(deps, group, lease, AbortSignal.any([stop.signal, lease.lost])),
        handOver: () => stop.abort(),
        stop: () => stop.abort(),
      };
    },
  };
}

/** Reads and applies batches until the signal. A batch under way is finished; an event is never skipped. */
async function read(
  deps: ReaderDeps,
  group: OrderedGroup,
  lease: Lease,
  signal: AbortSignal,
): Promise<Ended> {
  const { partition, token } = lease;
  const logger = deps.logger.child({ group: group.name, partition });
  const { value, release } = deps.logOf(partition);
  const log = value.open();
  let standing: Standing | undefined;
  /** Stays in the metrics while batches fail: that is when its lag is to be seen. */
  let shown: Standing | undefined;
  let failures = 0;
  let size = BATCH_EVENTS;
  // What the ledger lacks is not safe yet, and keeps the log from being trimmed: nobody pauses it.
  const isPaused = () => group.name !== LEDGER_GROUP && deps.paused.has(group.name);
  try {
    while (!signal.aborted && lease.held()) {
      try {
        // The lease's token was given for another server than the one that is there now.
        if ((deps.server() ?? lease.runId) !== lease.runId) return { kind: 'lost' };
        if (standing?.isSetBack) standing = undefined;
        if (!standing) {
          const checkpoint = await group.open(partition, token);
          if (shown) deps.standings.delete(shown);
          standing = shown = { group: group.name, partition, token, checkpoint, paused: false };
          deps.standings.add(shown);
          if (group.fill) standing.checkpoint = await group.fill(partition, checkpoint, token, signal);
          if (signal.aborted) continue;
        }
        if (isPaused()) {
          // It keeps its lease, so that its lag is seen, and begins anew after: its cursor may have been moved.
          standing.paused = true;
          standing = undefined;
          await deps.paused.untilTold(signal);
          continue;
        }
        // After a failure less at once: a batch that is too large for Postgres' time limits would fail for ever.
        const limit = Math.max(1, Math.floor(BATCH_EVENTS / 2 ** failures));
        const from = standing.checkpoint;
        const next = (after: Checkpoint) => untilAborted(log.next(after, limit, lease.runId), signal);
        const batch = failures > 0 ? await next(from) : await nextBatch(group, next, from, size, signal);
        if (!batch || signal.aborted || !lease.held() || isPaused()) continue;
        if (batch.run === lease.runId && log.isCurrent(batch)) {
          standing.checkpoint = await applyBatch(deps, group, from, batch, token);
          failures = 0;
          size = batch.events.length < size ? BATCH_EVENTS : Math.min(2 * size, MOST_EVENTS);
          await pause(gatherMs(batch.events.length, limit), signal);
        } else await pause(RECONNECTING_MS, signal);
      } catch (error) {
        const ended = endOf(error);
        if (ended) {
          report(deps, logger, lease, error);
          return ended;
        }
        failures++;
        const because = isTransient(error) ? 'transient' : 'other';
        deps.metrics.groupRetries.inc({ group: group.name, because });
        logger.error({ err: error, failures }, 'a batch was not applied; it is tried again');
        // Whether the transaction stands may be unknown: the checkpoint is read anew.
        standing = undefined;
        await pause(backoffMs(failures, RETRY, Math.random()), signal);
      }
    }
    return lease.lost.aborted ? { kind: 'lost' } : { kind: 'done' };
  } finally {
    if (shown) deps.standings.delete(shown);
    log.close();
    release();
  }
}

/**
 * How long to let events gather: a transaction costs as much as some fifty events, so many small ones of a partition
 * with much traffic take the machine from those that make the events. Nothing when there are few, or more are there.
 */
function gatherMs(events: number, limit: number): number {
  if (events >= limit) return 0;
  return Math.min(Math.max(0, events - FEW_EVENTS) * GATHER_MS_PER_EVENT, GATHER_MS);
}

async function applyBatch(
  deps: ReaderDeps,
  group: OrderedGroup,
  from: Checkpoint,
  batch: Batch,
  token: number,
): Promise<Checkpoint> {
  const [first] = batch.events;
  if (!first) return from;
  const moved = await group.apply(first.partition, from, batch.events, token);
  deps.hints.publish('checkpoints', `${group.name} ${first.partition} ${moved.epoch} ${moved.seq}`);
  return moved;
}

/** Passes by itself: a connection that broke, a server on its way down or up, a lock, a deadlock, a time limit. */
function isTransient(error: unknown): boolean {
  if (error instanceof StoreUnavailableError) return true;
  const code = error instanceof Error && 'code' in error ? String(error.code) : '';
  return /^(08|40|53|55|57)...$|^E[A-Z]+$/.test(code);
}

/** What an error means for the lease; undefined: try again. */
function endOf(error: unknown): Ended | undefined {
  if (error instanceof FencedError) return { kind: 'lost' };
  const reason = stopReason(error);
  if (!reason) return undefined;
  return { kind: 'yield', forMs: reason === 'unknown_event' ? YIELD_MS : ALARM_MS };
}

function stopReason(error: unknown): 'unknown_event' | 'fork' | 'gap' | undefined {
  if (error instanceof UnknownEventError) return 'unknown_event';
  if (error instanceof LedgerForkError || error instanceof LogForkError) return 'fork';
  return error instanceof LogGapError ? 'gap' : undefined;
}

function report(deps: ReaderDeps, logger: Logger, lease: Lease, error: unknown): void {
  const reason = stopReason(error);
  if (!reason) {
    logger.warn({ err: error }, 'fenced: another owner has taken over');
    return;
  }
  deps.metrics.groupStops.inc({ group: lease.group, partition: String(lease.partition), reason });
  if (reason === 'unknown_event') logger.error({ err: error }, 'left to newer code');
  else logger.fatal({ err: error }, 'stopped: the log and what was recorded of it disagree');
}
