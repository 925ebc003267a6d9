import { wasErased } from '../domain/accounts.ts';
import { type JobId, partitionOf, type ScheduleId, streamId } from '../domain/ids.ts';
import { enqueueJob } from '../domain/jobs/requests.ts';
import { type Job, jobFold } from '../domain/jobs/state.ts';
import {
  createSchedule as decideCreate,
  deleteSchedule as decideDelete,
  tickSchedule as decideTick,
  type MissedRuns,
  type Schedule,
  type ScheduledJob,
  type ScheduleTicked,
  scheduleFold,
  type Ticks,
} from '../domain/schedules.ts';
import type { EventStore, NextTick, Work } from '../eventstore/types.ts';
import { readCron } from './cron.ts';
import {
  type CommandContext,
  type CommandDeps,
  type CommandResult,
  changeOf,
  encodeChange,
  handle,
  type SealJob,
  type StreamChange,
} from './handle.ts';
import { partitionOfHash, withHashes } from './keys.ts';
import { anyPartition, mintId, streamFor } from './mint.ts';
import { ownerIsErased } from './owners.ts';
import { workOf } from './work.ts';

export type ScheduleCommandDeps = CommandDeps & {
  /** Without it nothing is sealed. */
  readonly sealJob?: SealJob;
  readonly hint: {
    /** A schedule ticks at a time, ms since 1970. May get lost: who waits for ticks looks by himself after a while. */
    readonly tick: (partition: number, at: number) => void;
  };
};

export type ScheduleAccepted = {
  readonly id: ScheduleId;
  readonly version: number;
  /** RFC 3339 UTC. Absent: it was deleted by now. */
  readonly nextRunAt?: string;
};

export type ScheduleWanted = {
  readonly cron: string;
  readonly timezone: string;
  readonly missed: MissedRuns;
  readonly job: ScheduledJob;
};

/**
 * Makes a schedule, in the partition that its runs will be in, that of their ordering key if they have one: so a tick
 * and its run are one commit.
 * @param input was checked: `cron` and `timezone` by `readCron`, and that it ever fires
 */
export async function createSchedule(
  deps: ScheduleCommandDeps,
  context: CommandContext,
  input: ScheduleWanted,
): Promise<CommandResult<ScheduleAccepted>> {
  const ticks = ticksOf(input);
  const hashed = withHashes(deps, context.owner, input.job);
  const job = deps.sealJob ? await deps.sealJob(context.owner, hashed) : hashed;
  if (!job) return { kind: 'refused', refusal: wasErased().refusal };
  const home = job.lane ? partitionOfHash(job.lane, deps.store.partitions) : anyPartition(deps);
  const minted = await mintId(deps, context, 'sched', home);
  if (!minted.ok) return { kind: 'key_reused' };
  const scheduleId: ScheduleId = minted.id;
  const partition = partitionOf(scheduleId);
  const result = await handle<ScheduleAccepted>(deps, context, partition, async () => {
    const schedule = await streamFor(deps, scheduleId, scheduleFold, minted.fresh);
    const now = deps.now();
    const next = ticks.next(now.getTime());
    if (next === undefined) throw new Error(`${input.cron} never fires`);
    const decision = decideCreate(schedule.state, { ...input, job, next: new Date(next).toISOString() });
    if (!decision.ok) return decision;
    const change = changeOf(context, now.toISOString(), schedule, scheduleFold, decision.events);
    return { ok: true, plan: planOf(scheduleId, change) };
  });
  if (result.kind === 'done' && result.body.nextRunAt !== undefined) {
    deps.hint.tick(partition, Date.parse(result.body.nextRunAt));
  }
  return result;
}

/** Ends a schedule; a run that it has enqueued goes on. Refused with `not_found`. */
export async function deleteSchedule(
  deps: CommandDeps,
  context: CommandContext,
  input: {
    readonly scheduleId: ScheduleId;
    /** Whose it must be; absent: anybody's, for an operator. */
    readonly owner?: string | undefined;
  },
): Promise<CommandResult<ScheduleAccepted>> {
  const { scheduleId, owner } = input;
  const loaded = await deps.store.load(scheduleId, scheduleFold);
  const its = 'owner' in loaded.state ? loaded.state.owner : undefined;
  const seen: Schedule = owner === undefined || owner === its ? loaded.state : scheduleFold.initial;
  const decision = decideDelete(seen);
  if (!decision.ok) return { kind: 'refused', refusal: decision.refusal };
  // The events are the owner's, whoever asked for them.
  const { owner: _asker, ...rest } = context;
  const own: CommandContext = its === undefined ? rest : { ...rest, owner: its };
  return handle<ScheduleAccepted>(deps, own, partitionOf(scheduleId), async () => {
    const schedule = { streamId: scheduleId, ...(await deps.store.load(scheduleId, scheduleFold)) };
    const again = decideDelete(schedule.state);
    if (!again.ok) return again;
    const change = changeOf(own, deps.now().toISOString(), schedule, scheduleFold, again.events);
    return { ok: true, plan: planOf(scheduleId, change) };
  });
}

function planOf(scheduleId: ScheduleId, change: StreamChange) {
  const { at } = nextTick(scheduleId, change.state.value as Schedule);
  return {
    changes: [change],
    ...(change.events.length > 0 ? { ticks: [{ scheduleId, at }] } : {}),
    body: {
      id: scheduleId,
      version: change.version,
      ...(at === undefined ? {} : { nextRunAt: new Date(at).toISOString() }),
    },
  };
}

export type TickDeps = Pick<CommandDeps, 'now' | 'randomText' | 'hmac' | 'traceCommit'> & {
  readonly store: Pick<EventStore, 'load' | 'commit'>;
};

export type TickOutcome =
  | { readonly kind: 'ticked'; readonly ticks: readonly ScheduleTicked[] }
  /** Another process owns the partition by now. */
  | { readonly kind: 'lease_lost' }
  /** The schedule changed meanwhile: look again. */
  | { readonly kind: 'conflict' };

const ACTOR = 'system:schedules';

/**
 * Enqueues what a schedule is due to run. The tick, the run and the next tick are one commit, which stands only if
 * nobody ticked since the state was read; the run's id follows from schedule and tick. So a tick has one run, whoever
 * tries, and however often. Where none is due, as it was deleted, or ticked by another, its next tick is set right. The
 * schedule of somebody who was erased is deleted instead.
 *
 * @param input.now ms since 1970, by the clock of Redis
 */
export async function tickSchedule(
  deps: TickDeps,
  input: {
    readonly scheduleId: ScheduleId;
    readonly now: number;
    readonly lease: { readonly group: string; readonly token: number };
  },
): Promise<TickOutcome> {
  const { scheduleId, now, lease } = input;
  const partition = partitionOf(scheduleId);
  const loaded = await deps.store.load(scheduleId, scheduleFold);
  const jobIdOf = (tick: string) => runOf(deps, scheduleId, tick);
  const { state } = loaded;
  const ticks = state.phase === 'active' ? ticksOf(state) : NEVER;
  const owner = 'owner' in state && state.owner !== undefined ? { owner: state.owner } : {};
  // Whoever asked for it while being erased has left it behind: no run of it would find a key.
  const over = state.phase === 'active' && (await ownerIsErased(deps, state.owner));
  const decision = over ? decideDelete(state) : decideTick(state, { now, ticks, jobIdOf });
  if (!decision.ok) throw new Error(decision.refusal.detail);
  const at = deps.now().toISOString();
  const said = decision.events.flatMap(({ type, data }) => (type === 'ScheduleTicked' ? [data] : []));
  const context = { actor: ACTOR, correlation: said[0]?.jobId ?? scheduleId, ...owner };
  const schedule = changeOf(context, at, { streamId: scheduleId, ...loaded }, scheduleFold, decision.events);
  const outcome = await deps.traceCommit(partition, (traceparent) => {
    const traced = { ...context, ...(traceparent ? { traceparent } : {}) };
    const runs = said.flatMap((tick) => runAt(traced, at, scheduleId, state, tick));
    return deps.store.commit({
      partition,
      lease,
      appends: [
        ...(decision.events.length > 0 ? [encodeChange(deps, traced, schedule)] : []),
        ...runs.map(({ context: its, change }) => encodeChange(deps, its, change)),
      ],
      ticks: [nextTick(scheduleId, schedule.state.value as Schedule)],
      work: runs.flatMap(({ work }) => work),
    });
  });
  switch (outcome.kind) {
    case 'committed':
      return { kind: 'ticked', ticks: said };
    case 'lease_lost':
    case 'conflict':
      return { kind: outcome.kind };
    default:
      throw new Error('a tick makes no claim');
  }
}

const NEVER: Ticks = { next: () => undefined, upTo: () => [] };

type RunContext = Pick<CommandContext, 'actor' | 'owner' | 'correlation' | 'traceparent'>;

/** The run of a tick, to be enqueued; nothing for one that was passed over. */
function runAt(
  tracing: RunContext,
  at: string,
  scheduleId: ScheduleId,
  schedule: Schedule,
  { jobId, tick }: ScheduleTicked,
): { context: RunContext; change: StreamChange; work: readonly Work[] }[] {
  if (jobId === undefined || schedule.phase !== 'active') return [];
  const id = jobId as JobId;
  const context = { ...tracing, correlation: jobId };
  const decision = enqueueJob(jobFold.initial, { ...schedule.job, schedule: { id: scheduleId, tick } });
  if (!decision.ok) throw new Error(decision.refusal.detail);
  // That there is none yet the schedule's version says.
  const stream = { streamId: id, state: jobFold.initial, version: 0, expected: { kind: 'minted' } as const };
  const change = changeOf(context, at, stream, jobFold, decision.events);
  const { work = [] } = workOf(id, change.state.value as Job, tracing.traceparent);
  return [{ context, change, work }];
}

/** The id of the run at a tick: in the schedule's partition, and the same whoever asks. */
function runOf(deps: Pick<CommandDeps, 'hmac'>, scheduleId: ScheduleId, tick: string): JobId {
  return streamId(
    'job',
    partitionOf(scheduleId),
    deps.hmac('run of a schedule', `${scheduleId} ${tick}`).slice(0, 40),
  );
}

/** Throws where this code can't read what an earlier version took. */
function ticksOf({ cron, timezone }: { readonly cron: string; readonly timezone: string }): Ticks {
  const read = readCron(cron, timezone);
  if (!read.ok) throw new Error(`${read.part} ${read.detail}`);
  return read.ticks;
}

function nextTick(scheduleId: ScheduleId, schedule: Schedule): NextTick {
  return { scheduleId, at: schedule.phase === 'active' ? schedule.nextAt : undefined };
}
