import type { Static } from 'typebox';
import { wasErased } from '../../domain/accounts.ts';
import { type Decision, refuse } from '../../domain/decision.ts';
import { type JobId, partitionOf } from '../../domain/ids.ts';
import { isoOf } from '../../domain/iso.ts';
import type { JobEnqueued, JobEvent } from '../../domain/jobs/events.ts';
import {
  cancelJob as decideCancel,
  discardJob as decideDiscard,
  enqueueJob as decideEnqueue,
  retryJob as decideRetry,
} from '../../domain/jobs/requests.ts';
import { type Job, jobFold, ownerOfJob } from '../../domain/jobs/state.ts';
import type { Loaded } from '../../eventstore/types.ts';
import {
  type CommandContext,
  type CommandDeps,
  type CommandResult,
  changeOf,
  handle,
  type SealJob,
} from '../handle.ts';
import { freedBy, partitionOfHash, withHashes } from '../keys.ts';
import { anyPartition, mintId, streamFor } from '../mint.ts';
import { workOf } from '../work.ts';

export type JobCommandDeps = CommandDeps & {
  /** Without it nothing is sealed. */
  readonly sealJob?: SealJob;
  /** Tells whom it concerns to look sooner. May get lost: they look by themselves after a while. */
  readonly hint: {
    /** A timer was set for `dueAt`, ms since 1970. */
    readonly timer: (partition: number, dueAt: number) => void;
    /** A running job is to end. */
    readonly cancel: (jobId: JobId) => void;
  };
};

export type JobAccepted = {
  readonly id: JobId;
  readonly version: number;
  readonly status: 'scheduled' | 'queued' | 'running' | 'failed' | 'cancelled';
};

/**
 * Enqueues a job, at once or by a timer; with an ordering key in the partition of its lane, with all others of it.
 * `input` is what `jobOf` made of the request; its payload was checked. Refused with `account_erased`.
 */
export async function enqueueJob(
  deps: JobCommandDeps,
  context: CommandContext,
  input: Static<typeof JobEnqueued>,
): Promise<CommandResult<JobAccepted>> {
  const hashed = withHashes(deps, context.owner, input);
  const wanted = deps.sealJob ? await deps.sealJob(context.owner, hashed) : hashed;
  if (!wanted) return { kind: 'refused', refusal: wasErased().refusal };
  const home = wanted.lane ? partitionOfHash(wanted.lane, deps.store.partitions) : anyPartition(deps);
  const minted = await mintId(deps, context, 'job', home);
  if (!minted.ok) return { kind: 'key_reused' };
  const jobId: JobId = minted.id;
  const partition = partitionOf(jobId);
  let timerAt: number | undefined;
  const result = await handle<JobAccepted>(deps, context, partition, async () => {
    const job = await streamFor(deps, jobId, jobFold, minted.fresh);
    const now = deps.now();
    const decision = decideEnqueue(job.state, dueLater(wanted, now));
    if (!decision.ok) return decision;
    const change = changeOf(context, isoOf(now.getTime()), job, jobFold, decision.events);
    const state = change.state.value as Job;
    const due = decision.events.length > 0 ? workOf(jobId, state) : {};
    timerAt = due.timers?.[0]?.dueAt;
    return {
      ok: true,
      plan: {
        changes: [change],
        ...due,
        body: { id: jobId, version: change.version, status: statusOf(state) },
      },
    };
  });
  if (timerAt !== undefined && result.kind === 'done') deps.hint.timer(partition, timerAt);
  return result;
}

/** A time that has passed is now. */
function dueLater({ runAt, ...input }: Static<typeof JobEnqueued>, now: Date): Static<typeof JobEnqueued> {
  const due = runAt === undefined ? 0 : Date.parse(runAt);
  return due > now.getTime() ? { ...input, runAt: new Date(due).toISOString() } : input;
}

export type JobOf = {
  readonly jobId: JobId;
  /** Whose it must be; absent: anybody's, for an operator. */
  readonly owner?: string | undefined;
  /** The one version of it that was decided about; refused with `job_changed` where there are later ones. */
  readonly version?: number | undefined;
};

/** What somebody may want of a job that is there. */
export type JobChange = 'cancel' | 'retry' | 'discard';

const DECISIONS: Record<JobChange, (state: Job, now: string) => Decision<JobEvent>> = {
  cancel: decideCancel,
  retry: decideRetry,
  discard: decideDiscard,
};

/**
 * What a change would meet, changing nothing: the phase that the job is in, and whether anything would change. Refused
 * as the change would be.
 */
export async function foreseeChange(
  deps: Pick<JobCommandDeps, 'store' | 'now'>,
  change: JobChange,
  { jobId, owner }: JobOf,
): Promise<
  | { readonly ok: true; readonly status: JobAccepted['status']; readonly changes: boolean }
  | ReturnType<typeof refuse>
> {
  const { state, version } = await deps.store.load(jobId, jobFold);
  if (version === 0 || (owner !== undefined && ownerOfJob(state) !== owner)) return notFound();
  const decision = DECISIONS[change](state, isoOf(deps.now().getTime()));
  return decision.ok ? { ok: true, status: statusOf(state), changes: decision.events.length > 0 } : decision;
}

const notFound = () => refuse('not_found', 'There is no such job of yours.');

/**
 * Cancels a job: at once if it waits, by way of its worker if it runs. Refused with `not_found`, `job_finished`.
 */
export async function cancelJob(
  deps: JobCommandDeps,
  context: CommandContext,
  input: JobOf,
): Promise<CommandResult<JobAccepted>> {
  const result = await change(deps, context, input, 'cancel');
  if (result.kind === 'done' && result.body.status === 'running') deps.hint.cancel(input.jobId);
  return result;
}

/** Enqueues a job again that failed or was cancelled. Refused with `not_found`, `job_not_retryable`. */
export function retryJob(
  deps: JobCommandDeps,
  context: CommandContext,
  input: JobOf,
): Promise<CommandResult<JobAccepted>> {
  return change(deps, context, input, 'retry');
}

/** Gives a dead letter up: what is parked behind it goes on. Refused with `not_found`, `job_not_dead`. */
export function discardJob(
  deps: JobCommandDeps,
  context: CommandContext,
  input: JobOf,
): Promise<CommandResult<JobAccepted>> {
  return change(deps, context, input, 'discard');
}

async function change(
  deps: JobCommandDeps,
  context: CommandContext,
  { jobId, owner, version }: JobOf,
  name: JobChange,
): Promise<CommandResult<JobAccepted>> {
  let first: Loaded<Job> | undefined = await deps.store.load(jobId, jobFold);
  const its = ownerOfJob(first.state);
  if (first.version === 0 || (owner !== undefined && its !== owner)) {
    return { kind: 'refused', refusal: notFound().refusal };
  }
  // The events are the owner's, whoever asked for them.
  const { owner: _asker, ...rest } = context;
  const own: CommandContext = its === undefined ? rest : { ...rest, owner: its };
  return handle<JobAccepted>(deps, own, partitionOf(jobId), async () => {
    const job = { streamId: jobId, ...(first ?? (await deps.store.load(jobId, jobFold))) };
    first = undefined;
    const at = isoOf(deps.now().getTime());
    if (version !== undefined && job.version !== version) {
      return refuse('job_changed', `The job is at version ${job.version}, and not at ${version}.`);
    }
    const decision = DECISIONS[name](job.state, at);
    if (!decision.ok) return decision;
    const changed = changeOf(own, at, job, jobFold, decision.events);
    const state = changed.state.value as Job;
    return {
      ok: true,
      plan: {
        changes: [changed],
        // Without an event no version is checked, and what was loaded may be long past.
        ...(decision.events.length > 0 ? consequencesOf(jobId, state) : {}),
        body: { id: jobId, version: changed.version, status: statusOf(state) },
      },
    };
  });
}

/** What is to happen together with a change that leaves a job in `state`. */
function consequencesOf(jobId: JobId, state: Job) {
  return {
    ...workOf(jobId, state),
    // Its work entry can't be named from here: whoever takes it finds the job cancelled.
    ...(state.phase === 'cancelled' ? { cancelledTimers: [jobId] } : {}),
    ...('spec' in state ? freedBy(jobId, state.spec, state) : {}),
  };
}

function statusOf({ phase }: Job): JobAccepted['status'] {
  switch (phase) {
    case 'scheduled':
    case 'queued':
    case 'failed':
    case 'cancelled':
      return phase;
    default:
      return 'running';
  }
}
