import type { Fold } from '../domain/decision.ts';
import type { FoldMeta, RawEvent } from '../domain/event.ts';
import type { EventId, JobId, ScheduleId, StreamId } from '../domain/ids.ts';
import type { Position } from '../domain/position.ts';

/** What must be true of a stream for a commit to append to it. */
export type Expected =
  /** The id was minted by this very request: nothing can be there yet. */
  | { readonly kind: 'minted' }
  /** The state was loaded at this version; `scannedTo` is the seq up to which absence was proven, if Redis had no state. */
  | { readonly kind: 'loaded'; readonly version: number; readonly scannedTo?: number };

export type AppendToStream = {
  readonly streamId: StreamId;
  readonly expected: Expected;
  /** At least one; `data` and `meta` are JSON texts, written as they are. */
  readonly events: readonly {
    readonly id: EventId;
    readonly type: string;
    readonly data: string;
    readonly meta: string;
  }[];
  /** The state after these events, as JSON, and the fold version of the code that made it. */
  readonly state: { readonly json: string; readonly fold: number };
};

/** One entry of `work:<queue>:<priority>`: enough to take the job, meter its wait and go on with its trace. */
export type Work = {
  readonly queue: string;
  readonly priority: string;
  readonly jobId: JobId;
  readonly type: string;
  /** Milliseconds since 1970: when the job became due. */
  readonly dueAt: number;
  readonly traceparent?: string;
  /** Hash of owner and ordering key, if it has one: such work waits behind the job that holds the lane. */
  readonly lane?: string;
};

/** Work that becomes due later. */
export type Timer = Work & {
  /** When it is to be looked at, where that is not when it became due: it waits for something else. */
  readonly wakeAt?: number;
};

/** A lane that is free again, if it was this job that held it: the oldest that is parked behind it holds it next. */
export type FreedLane = {
  readonly queue: string;
  readonly lane: string;
  readonly jobId: JobId;
  /**
   * Only where the job holds it by the work entry of this time. For who has no event to say that the job has ended,
   * and so no version that is checked: it may have been enqueued anew, and hold the lane by another entry, since.
   */
  readonly dueAt?: number;
};
/** When a schedule ticks next, ms since 1970. Absent: never again. */
export type NextTick = { readonly scheduleId: ScheduleId; readonly at?: number | undefined };

/** Everything that one atomic commit does, in one partition. All or nothing. */
export type CommitRequest = {
  readonly partition: number;
  /** Set when the caller acts for a consumer group: a stale token is refused. */
  readonly lease?: { readonly group: string; readonly token: number };
  /**
   * How far a reactor has reacted, moved together with what it does. Not where it is said to be: `lease_lost`.
   */
  readonly cursor?: {
    /** Stored in its key: a name for life. */
    readonly reactor: string;
    /** As the last move left it; '': there was none. */
    readonly from: string;
    readonly to: string;
  };
  readonly claim?: {
    /** HMAC (hex or letters and digits) of caller, route and key; random for a command without a key. */
    readonly key: string;
    readonly fingerprint: string;
    /** Given back to whoever comes again with the same key and fingerprint. */
    readonly answer: string;
    readonly retentionMs: number;
  };
  /** May be empty: then the commit only writes its claim. */
  readonly appends: readonly AppendToStream[];
  /** Of the schedules whose next tick is another one by this commit. */
  readonly ticks?: readonly NextTick[];
  readonly work?: readonly Work[];
  /** Lanes whose holders end with this commit. */
  readonly freed?: readonly FreedLane[];
  /** Work that becomes due later. */
  readonly timers?: readonly Timer[];
  /** Jobs whose timers are taken away; a job without one is passed over. */
  readonly cancelledTimers?: readonly JobId[];
  /** Work entries that this commit finishes: acked and deleted. */
  readonly finished?: readonly {
    readonly queue: string;
    readonly priority: string;
    readonly entryId: string;
  }[];
  /** Completions go on while memory is short, or nothing could ever be freed. Default: 'command'. */
  readonly memory?: 'command' | 'completion';
};

export type CommitOutcome =
  /** `position` names the last event written (for a commit without events: the partition's last seq). */
  | { readonly kind: 'committed'; readonly position: Position; readonly versions: readonly number[] }
  /** The claim was taken by an earlier commit with the same fingerprint; `position` is that one's. */
  | { readonly kind: 'replayed'; readonly position: Position; readonly answer: string }
  /** The claim was taken by a commit with another fingerprint. */
  | { readonly kind: 'claim_reused' }
  /** A stream has moved on, or its state must be loaded again. Load and decide once more. */
  | { readonly kind: 'conflict'; readonly streamId: StreamId }
  /** The token is stale, or the cursor was moved by another: whoever asks has been followed by another owner. */
  | { readonly kind: 'lease_lost' };

/** What the commit that made a claim wrote down. `position` names its last event. */
export type Claim = {
  readonly fingerprint: string;
  readonly position: Position;
  readonly answer: string;
};

export type Loaded<S> = {
  readonly state: S;
  /** 0: the stream has no event. */
  readonly version: number;
  /** Seq of the stream's last event; 0 if it has none. */
  readonly lastSeq: number;
  readonly expected: Expected;
};

/** Nothing was done; try again later. Becomes HTTP 503 with `Retry-After`. */
export class StoreUnavailableError extends Error {
  override readonly name: string = 'StoreUnavailableError';
}
/** Commits have stopped because Redis and the ledger may disagree. Nothing was done. `message` says why. */
export class StoreFencedError extends StoreUnavailableError {
  override readonly name = 'StoreFencedError';
}
/** Redis is too full for commands. Nothing was done. */
export class MemoryGuardError extends StoreUnavailableError {
  override readonly name = 'MemoryGuardError';
}
/** The commit was sent and its reply was lost: it may or may not stand. The same claim asks again. */
export class OutcomeUnknownError extends Error {
  override readonly name = 'OutcomeUnknownError';
}

/** An event as `evolve` sees it. `load` must give it no less. */
export type FoldEvent = { readonly type: string; readonly data: unknown } & FoldMeta;

/** The write side: the one way to append, and to learn what a stream's state is. */
export type EventStore = {
  readonly partitions: number;
  /**
   * Commits atomically. Commits of one tick to one partition travel in one call. After a lost reply the same call is sent
   * again, under its number, before `OutcomeUnknownError` is thrown. Throws the errors above.
   */
  commit(request: CommitRequest): Promise<CommitOutcome>;
  /** From Redis' state if it can be trusted, else from the ledger and the log's tail. */
  load<S, E>(streamId: StreamId, fold: Fold<S, E>): Promise<Loaded<S>>;
  /**
   * At once, by the state's text, which a script has just read beside something else. Undefined: that does not suffice.
   */
  loadKept<S, E>(streamId: StreamId, fold: Fold<S, E>, kept: string): Loaded<S> | undefined;
  /** What was answered under an idempotency key. Undefined: nothing, or it is too long ago. */
  findClaim(partition: number, key: string): Promise<Claim | undefined>;
  /** Highest seq of every partition, by index. */
  heads(): Promise<number[]>;
  /** Why commits are stopped, or undefined. For `/readyz` and errors. */
  fencedBecause(): string | undefined;
  close(): Promise<void>;
};

export type Checkpoint = {
  readonly epoch: number;
  /** 0: nothing read yet. */
  readonly seq: number;
  readonly eventId: EventId | null;
};

/**
 * An ordered reader of the log: the ledger, each projection. The consumer side owns the loop, the lease and
 * the reading; a group owns its rows and its checkpoint, which move in one transaction.
 */
export type OrderedGroup = {
  /** `ledger`, `projection:jobs@2`: stored in leases and checkpoints, an identifier for life. */
  readonly name: string;
  /** Takes a partition over: raises the token in its checkpoint row, so that older owners write nothing more. */
  open(partition: number, token: number): Promise<Checkpoint>;
  /** Whether an event may change anything but the checkpoint, by a cheap look. Default: all may. */
  concerns?(event: RawEvent): boolean;
  /**
   * Comes as far as it can by itself, from the ledger, before it is given anything to apply: faster than batch by batch.
   * Where the signal ends it early, nothing is lost: it goes on from its checkpoint.
   */
  fill?(partition: number, from: Checkpoint, token: number, signal: AbortSignal): Promise<Checkpoint>;
  /**
   * Applies a contiguous batch that begins right after `from`, and moves the checkpoint, in one transaction.
   * Throws `FencedError` when the token is stale or the checkpoint is not `from`; any other error: not applied.
   */
  apply(partition: number, from: Checkpoint, events: readonly RawEvent[], token: number): Promise<Checkpoint>;
};

/** Another owner has taken over, or the log was reconciled: drop what you hold and take the lease anew. */
export class FencedError extends Error {
  override readonly name = 'FencedError';
}
