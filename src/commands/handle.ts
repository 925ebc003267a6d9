import type { Static } from 'typebox';
import type { Fold, Refusal } from '../domain/decision.ts';
import type { EventMeta, FoldMeta } from '../domain/event.ts';
import { codec, type DomainEvent } from '../domain/events.ts';
import type { EventId, JobId, StreamId } from '../domain/ids.ts';
import type { JobEnqueued } from '../domain/jobs/events.ts';
import { formatPosition, type Position } from '../domain/position.ts';
import {
  type AppendToStream,
  type CommitRequest,
  type EventStore,
  type Expected,
  type FreedLane,
  type NextTick,
  StoreUnavailableError,
  type Work,
} from '../eventstore/types.ts';

export type Durability = 'memory' | 'replicated' | 'ledger';

/** Who asks, and under which terms. Made by the edge (HTTP, CLI) for each request. */
export type CommandContext = {
  /** The account that acts, or `system:<part>`. */
  readonly actor: string;
  /** The account that the events belong to. Absent: the installation's own, or minted by the command. */
  readonly owner?: string;
  readonly correlation: string;
  readonly traceparent?: string;
  /** Why, in the words of who acts; kept with the events. */
  readonly reason?: string;
  /** Id of the event that this follows from; of an operation's record, its stream. */
  readonly causation?: string;
  readonly durability: Durability;
  /** HMAC of caller, route and key; fingerprint of the body. */
  readonly idempotency?: { readonly key: string; readonly fingerprint: string };
};

/** The commit stands, but did not become as durable as was asked in time. */
export class DurabilityNotReachedError extends Error {
  override readonly name = 'DurabilityNotReachedError';
  readonly position: string;
  constructor(position: string, wanted: Durability) {
    super(`the events stand at ${position}, but were not ${wanted} in time; the same key waits again`);
    this.position = position;
  }
}

export type CommandDeps = {
  readonly store: EventStore;
  readonly now: () => Date;
  /** Letters and digits, at least 118 bits for 20 characters. */
  readonly randomText: (length: number) => string;
  /** Keyed hash as hex; `purpose` keeps one use's values from meaning anything in another. */
  readonly hmac: (purpose: string, text: string) => string;
  readonly idempotencyRetentionMs: number;
  /** Waits until an event is as durable as asked; false: not in time. */
  readonly awaitDurability: (position: Position, durability: Durability) => Promise<boolean>;
  /** Measures and traces a commit; `run` is the commit itself. */
  readonly traceCommit: <T>(
    partition: number,
    run: (traceparent: string | undefined) => Promise<T>,
  ) => Promise<T>;
};

/**
 * Seals what a job says of its owner with that person's key, unless its type says that there is nothing personal. Undefined:
 * the person was erased. Needs Postgres.
 */
export type SealJob = (
  owner: string | undefined,
  job: Static<typeof JobEnqueued>,
) => Promise<Static<typeof JobEnqueued> | undefined>;

export type Done<B> = {
  readonly kind: 'done';
  readonly body: B;
  /** Names the last event written. */
  readonly position: string;
  /** This is an earlier command's answer. */
  readonly replayed: boolean;
  readonly durability: Durability;
};
export type CommandResult<B> =
  | Done<B>
  | { readonly kind: 'refused'; readonly refusal: Refusal }
  | { readonly kind: 'key_reused' };

/** Events for one stream, and the state that follows from them. */
export type StreamChange = {
  readonly streamId: StreamId;
  readonly expected: Expected;
  /** After the events. */
  readonly version: number;
  /** When it was decided, RFC 3339. */
  readonly at: string;
  /** When the first of its events happened, if that was before. */
  readonly begunAt?: string;
  readonly events: readonly DomainEvent[];
  readonly state: { readonly value: unknown; readonly fold: number; readonly text: () => string };
};

/** What a command decided: nothing to refuse, so this is to be committed. */
export type Plan<B> = {
  readonly changes: readonly StreamChange[];
  readonly ticks?: readonly NextTick[];
  readonly work?: readonly Work[];
  readonly timers?: readonly Work[];
  readonly cancelledTimers?: readonly JobId[];
  readonly freed?: readonly FreedLane[];
  readonly body: B;
};

export type Decided<B> =
  | { readonly ok: true; readonly plan: Plan<B> }
  | { readonly ok: false; readonly refusal: Refusal };

/** A command that loses its race this often is told to come again rather than to spin. */
const ATTEMPTS = 10;

/**
 * The one load → decide → commit loop. `decide` loads what it needs and decides; it is called anew after
 * each conflict. A repeated fact decides on no events: the claim then finds the first answer.
 *
 * Throws `StoreUnavailableError` (nothing was done), `OutcomeUnknownError`, `DurabilityNotReachedError`.
 */
export async function handle<B>(
  deps: CommandDeps,
  context: CommandContext,
  partition: number,
  decide: () => Promise<Decided<B>>,
): Promise<CommandResult<B>> {
  for (let attempt = 1; ; attempt++) {
    const decided = await decide();
    if (!decided.ok) return (await answered(deps, context, partition)) ?? refused(decided.refusal);
    const { plan } = decided;
    const outcome = await deps.traceCommit(partition, (traceparent) =>
      deps.store.commit(
        commitRequest(deps, { ...context, ...(traceparent ? { traceparent } : {}) }, partition, plan),
      ),
    );
    switch (outcome.kind) {
      case 'committed':
        return finish(deps, context, outcome.position, plan.body, false);
      case 'replayed':
        return finish(deps, context, outcome.position, JSON.parse(outcome.answer) as B, true);
      case 'claim_reused':
        return { kind: 'key_reused' };
      case 'conflict':
        if (attempt >= ATTEMPTS) {
          throw new StoreUnavailableError(`${outcome.streamId} changes faster than this command can follow`);
        }
        continue;
      case 'lease_lost':
        throw new Error('a command holds no lease, so it cannot lose one');
    }
  }
}

const refused = (refusal: Refusal) => ({ kind: 'refused', refusal }) as const;

/**
 * What is refused now may have been done by an earlier request with the same key, and be refused for that very
 * reason: a retry that is asked for again finds the job enqueued. Undefined: there was none.
 */
async function answered<B>(
  deps: CommandDeps,
  context: CommandContext,
  partition: number,
): Promise<CommandResult<B> | undefined> {
  if (!context.idempotency) return undefined;
  const claim = await deps.store.findClaim(partition, context.idempotency.key);
  if (!claim) return undefined;
  if (claim.fingerprint !== context.idempotency.fingerprint) return { kind: 'key_reused' };
  return finish(deps, context, claim.position, JSON.parse(claim.answer) as B, true);
}

async function finish<B>(
  deps: CommandDeps,
  context: CommandContext,
  at: Position,
  body: B,
  replayed: boolean,
): Promise<Done<B>> {
  const position = formatPosition(at);
  if (!(await deps.awaitDurability(at, context.durability))) {
    throw new DurabilityNotReachedError(position, context.durability);
  }
  return { kind: 'done', body, position, replayed, durability: context.durability };
}

function commitRequest<B>(
  deps: CommandDeps,
  context: CommandContext,
  partition: number,
  plan: Plan<B>,
): CommitRequest {
  const { idempotency, traceparent } = context;
  const answer = JSON.stringify(plan.body);
  const claim = idempotency ? { ...idempotency, answer } : undefined;
  const traced = (work: Work): Work => ({ ...work, ...(traceparent ? { traceparent } : {}) });
  return {
    partition,
    appends: plan.changes
      .filter((change) => change.events.length > 0)
      .map((change, index) => encodeChange(deps, context, change, index === 0 ? claim : undefined)),
    ...(claim ? { claim: { ...claim, retentionMs: deps.idempotencyRetentionMs } } : {}),
    ...(plan.ticks ? { ticks: plan.ticks } : {}),
    ...(plan.work ? { work: plan.work.map(traced) } : {}),
    ...(plan.timers ? { timers: plan.timers.map(traced) } : {}),
    ...(plan.cancelledTimers ? { cancelledTimers: plan.cancelledTimers } : {}),
    ...(plan.freed ? { freed: plan.freed } : {}),
  };
}

/** What a commit needs of a change: events as JSON texts with their metadata, and the state after them. */
export function encodeChange(
  deps: Pick<CommandDeps, 'randomText'>,
  context: Pick<CommandContext, 'actor' | 'owner' | 'correlation' | 'traceparent' | 'reason'> &
    Pick<EventMeta, 'causation' | 'reaction' | 'replay'>,
  change: StreamChange,
  claim?: EventMeta['claim'],
): AppendToStream {
  const { owner, correlation, actor, causation, reaction, replay, traceparent, reason } = context;
  // What is the same in all events of the change is made JSON once; what is undefined is left out.
  const same: Shared = { owner, correlation, actor, causation, reaction, replay, traceparent, reason };
  const rest = JSON.stringify(same).slice(1, -1);
  return {
    streamId: change.streamId,
    expected: change.expected,
    events: change.events.map((event, index) => {
      const isFirst = index === 0;
      const schema = codec.check(event.type, event.data);
      const at = isFirst ? (change.begunAt ?? change.at) : change.at;
      // Key and answer travel in the commit's first event, so that a lost Redis gets its claims back.
      const claimed = claim && isFirst ? `,"claim":${JSON.stringify(claim)}` : '';
      return {
        id: deps.randomText(16) as EventId,
        type: event.type,
        data: JSON.stringify(event.data),
        meta: `{"schema":${schema},"at":"${at}",${rest}${claimed}}`,
      };
    }),
    state: { json: change.state.text(), fold: change.state.fold },
  };
}

type Shared = {
  readonly [Name in keyof Omit<EventMeta, 'schema' | 'at' | 'claim'>]-?: EventMeta[Name] | undefined;
};

function foldMeta(context: Pick<CommandContext, 'owner' | 'correlation'>, at: string): FoldMeta {
  return { at, ...(context.owner ? { owner: context.owner } : {}), correlation: context.correlation };
}

/** Folds decided events into the state that the commit keeps beside them. */
export function changeOf<S, E extends DomainEvent>(
  context: Pick<CommandContext, 'owner' | 'correlation'>,
  at: string,
  loaded: {
    readonly streamId: StreamId;
    readonly state: S;
    readonly version: number;
    readonly expected: Expected;
  },
  fold: Pick<Fold<S, E & FoldMeta>, 'fold' | 'evolve' | 'kept'>,
  events: readonly E[],
): StreamChange {
  const meta = foldMeta(context, at);
  const value = events.reduce((state, event) => fold.evolve(state, { ...event, ...meta }), loaded.state);
  return {
    streamId: loaded.streamId,
    expected: loaded.expected,
    version: loaded.version + events.length,
    at,
    events,
    state: { value, fold: fold.fold, text: () => fold.kept?.write(value) ?? JSON.stringify(value) },
  };
}
