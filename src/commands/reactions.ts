import type { Static } from 'typebox';
import type { EventMeta } from '../domain/event.ts';
import { type EventId, type JobId, streamId } from '../domain/ids.ts';
import type { JobEnqueued } from '../domain/jobs/events.ts';
import { enqueueJob } from '../domain/jobs/requests.ts';
import { type Job, jobFold } from '../domain/jobs/state.ts';
import { type CommitRequest, type EventStore, FencedError } from '../eventstore/types.ts';
import { type CommandDeps, changeOf, encodeChange } from './handle.ts';
import { workOf } from './work.ts';

export type ReactionDeps = Pick<CommandDeps, 'now' | 'randomText'> & {
  readonly store: Pick<EventStore, 'load' | 'commit'>;
};

/** A job that follows from an event of the same partition. */
export type Reaction = {
  /** Derived from the event: whoever reacts to it again comes to the same one. */
  readonly jobId: JobId;
  readonly job: Static<typeof JobEnqueued>;
  readonly event: { readonly id: EventId; readonly seq: number } & Pick<
    EventMeta,
    'owner' | 'correlation' | 'traceparent'
  >;
};

const ATTEMPTS = 10;

/**
 * Enqueues what follows from events and moves the reactor's cursor beyond them, in one commit: exactly once, wherever
 * anything stops in between. Where the cursor itself was lost, and events come again, the derived ids find the jobs
 * that they led to.
 *
 * Throws `FencedError` when another owner has followed, `StoreUnavailableError`, or `OutcomeUnknownError`: then the
 * cursor says whether it was done.
 */
export function commitReactions(
  deps: ReactionDeps,
  request: Pick<CommitRequest, 'partition'> & Required<Pick<CommitRequest, 'lease' | 'cursor'>>,
  reactions: readonly Reaction[],
): Promise<void> {
  const { reactor } = request.cursor;
  const its = reactions.map((reaction) => ({
    ...reaction,
    told: { actor: `system:${reactor}`, reaction: { reactor, seq: reaction.event.seq } },
  }));
  return commitJobs(deps, request, its);
}

/**
 * Enqueues what follows from events once more, as a replay's own: ids follow from the replay and what it is about, so
 * that the same replay comes to the same jobs, and another one to others. The reactor's cursor has no part in it.
 *
 * Throws `StoreUnavailableError`, or `OutcomeUnknownError`: doing it again does nothing twice.
 */
export async function commitReplayed(
  deps: ReactionDeps & Pick<CommandDeps, 'hmac'>,
  {
    partition,
    replay,
    reactor,
  }: { readonly partition: number; readonly replay: JobId; readonly reactor: string },
  reactions: readonly Reaction[],
): Promise<void> {
  if (reactions.length === 0) return;
  const its = reactions.map(({ jobId, job, event: { traceparent: _, ...event } }) => ({
    jobId: streamId('job', partition, deps.hmac('replayed job', `${replay}\n${jobId}`).slice(0, 32)),
    // Behind what is live, where no order forbids it. In a trace of its own: of old ones there may be thousands.
    job: job.orderingKey === undefined ? { ...job, priority: 'low' as const } : job,
    event,
    told: { actor: `system:${reactor}`, replay: { id: replay, reactor, seq: event.seq } },
  }));
  await commitJobs(deps, { partition }, its);
}

type Told = Reaction & {
  readonly told: { readonly actor: string } & Pick<EventMeta, 'reaction' | 'replay'>;
};

async function commitJobs(
  deps: ReactionDeps,
  request: Pick<CommitRequest, 'partition' | 'lease' | 'cursor'>,
  reactions: readonly Told[],
): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    const enqueued = await Promise.all(reactions.map((reaction) => enqueue(deps, reaction)));
    const outcome = await deps.store.commit({
      ...request,
      appends: enqueued.flatMap(({ appends }) => appends),
      work: enqueued.flatMap(({ work = [] }) => work),
      // A move alone makes nothing larger: there is no use in refusing it while memory is short.
      ...(reactions.length === 0 ? { memory: 'completion' as const } : {}),
    });
    if (outcome.kind === 'committed') return;
    if (outcome.kind === 'lease_lost') {
      throw new FencedError(
        `${request.cursor?.reactor} of partition ${request.partition} has another owner, or was put elsewhere`,
      );
    }
    if (outcome.kind !== 'conflict') throw new Error(`a reaction makes no claim, but was ${outcome.kind}`);
    if (attempt >= ATTEMPTS) throw new Error(`${outcome.streamId} changes faster than it can be followed`);
  }
}

async function enqueue(deps: ReactionDeps, { jobId, job, event, told }: Told) {
  const loaded = await deps.store.load(jobId, jobFold);
  const decision = enqueueJob(loaded.state, job);
  if (!decision.ok || decision.events.length === 0) return { appends: [] };
  const { id: causation, seq: _, ...trace } = event;
  const context = { ...trace, ...told, causation };
  const at = deps.now().toISOString();
  const change = changeOf(context, at, { streamId: jobId, ...loaded }, jobFold, decision.events);
  return {
    appends: [encodeChange(deps, context, change)],
    ...workOf(jobId, change.state.value as Job, event.traceparent),
  };
}
