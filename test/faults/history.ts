import type { RawEvent } from '../../src/domain/event.ts';
import type { AnyProjection, AnyRow } from '../../src/projections/projection.ts';
import type { Said } from './job.ts';
import type { Asked, Promised } from './load.ts';

/** What a handler said, and when, by the clock of the server that heard it (ms since 1970). */
export type Effect = Said & { readonly at: number };

/** All that is left of a round, gathered when everything had settled: what the checker looks at. */
export type History = {
  readonly promises: readonly Promised[];
  readonly asked: readonly Asked[];
  /** The ledger, by partition and seq. */
  readonly events: readonly RawEvent[];
  readonly heads: readonly { readonly streamId: string; readonly version: number; readonly seq: number }[];
  /** The ledger's hash chain, in the order of its rows. */
  readonly chain: readonly {
    readonly partition: number;
    readonly first: number;
    readonly last: number;
    readonly previous: Buffer;
    readonly hash: Buffer;
  }[];
  /** What the logs still hold. */
  readonly log: readonly RawEvent[];
  /** Highest seq of each partition, as Redis has it. */
  readonly logHeads: readonly number[];
  readonly readModels: readonly { readonly projection: AnyProjection; readonly rows: readonly AnyRow[] }[];
  /** Events that projections left out. */
  readonly parked: number;
  /** In the order in which they were heard. */
  readonly effects: readonly Effect[];
  /** Keys of Redis that hold work although every job has ended. */
  readonly leftovers: readonly { readonly key: string; readonly entries: number }[];
  /** Answers that no fault explains. */
  readonly oddities: readonly string[];
  /** Ends of processes that are bugs by their own word. */
  readonly crashes: readonly string[];
};

/** What is counted. Each must be 0. */
export const COUNTS = {
  missing: 'acknowledged, and not in the ledger',
  refusedYetDone: 'refused, and done all the same',
  doubled: 'one request under one key, and more than one job',
  completedTwice: 'a job with more than one accepted result',
  outOfOrder: 'an ordering key whose later job was started first',
  overlapping:
    'two accepted runs of an ordering key that overlap, or a job that overtook one that holds the key',
  overLimit: 'more accepted runs of a concurrency key at once than its limit',
  stale: 'an accepted end that is not of the last accepted start',
  illegal: 'a history that no job can have',
  early: 'begun before it was due',
  unfinished: 'not ended although every fault was healed',
  readModel: 'rows that are not the fold of the ledger',
  ledger: 'gaps and forks in the ledger: seq, versions, heads, hash chain',
  log: 'log and ledger that differ where both have an event',
  leftovers: 'work, timers or keys held in Redis for jobs that have ended',
  oddities: 'answers that no fault explains',
  crashes: 'processes that ended by a bug',
} as const;
export type Count = keyof typeof COUNTS;

export type Violation = { readonly count: Count; readonly what: string };
