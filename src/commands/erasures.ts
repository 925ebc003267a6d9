import {
  accountFold,
  completeErasure as decideCompletion,
  eraseAccount as decideErasure,
  releaseEmail as decideRelease,
  type Erased,
  emailFold,
  wasErased,
} from '../domain/accounts.ts';
import { eraseJobType } from '../domain/erasures.ts';
import { type AccountId, type JobId, partitionOf, type StreamId } from '../domain/ids.ts';
import { jobOf } from '../domain/job-types.ts';
import { enqueueJob } from '../domain/jobs/requests.ts';
import { type Job, jobFold } from '../domain/jobs/state.ts';
import { type CommandContext, type CommandDeps, type CommandResult, changeOf, handle } from './handle.ts';
import { mintId, streamFor } from './mint.ts';
import { workOf } from './work.ts';

export type ErasureAccepted = { readonly id: AccountId; readonly version: number };

/**
 * Closes an account for good: from this commit on it can't be logged into, and its tokens are worth nothing. The job that
 * takes away what is known of the person is enqueued by the same commit. Erasing again changes nothing. Refused with
 * `not_found`.
 */
export async function eraseAccount(
  deps: CommandDeps,
  context: CommandContext,
  { accountId }: { readonly accountId: AccountId },
): Promise<CommandResult<ErasureAccepted>> {
  const partition = partitionOf(accountId);
  const minted = await mintId(deps, context, 'job', partition);
  if (!minted.ok) return { kind: 'key_reused' };
  const jobId: JobId = minted.id;
  const own: CommandContext = { ...context, owner: accountId };
  return handle<ErasureAccepted>(deps, own, partition, async () => {
    const account = { streamId: accountId, ...(await deps.store.load(accountId, accountFold)) };
    const decision = decideErasure(account.state, jobId);
    if (!decision.ok) return decision;
    const at = deps.now().toISOString();
    const erased = changeOf(own, at, account, accountFold, decision.events);
    const body = { id: accountId, version: erased.version };
    if (decision.events.length === 0) return { ok: true, plan: { changes: [], body } };
    const job = await streamFor(deps, jobId, jobFold, minted.fresh);
    const enqueued = enqueueJob(job.state, jobOf(eraseJobType, { accountId }, { priority: 'high' }));
    if (!enqueued.ok) return enqueued;
    const enqueuing = changeOf(own, at, job, jobFold, enqueued.events);
    const work = workOf(jobId, enqueuing.state.value as Job);
    return { ok: true, plan: { changes: [erased, enqueuing], ...work, body } };
  });
}

/**
 * What an erasure was answered, for whoever asks again under its idempotency key: the reply may have been lost, and their
 * token is worth nothing by then. Refused with `account_erased` where that key has erased nobody. Throws what `handle` throws.
 */
export function erasureAgain(
  deps: CommandDeps,
  context: CommandContext,
  { accountId }: { readonly accountId: AccountId },
): Promise<CommandResult<ErasureAccepted>> {
  return handle(deps, { ...context, owner: accountId }, partitionOf(accountId), async () => wasErased());
}

/** Records that nothing is left. Doing so again changes nothing. */
export async function completeErasure(
  deps: CommandDeps,
  context: CommandContext,
  { accountId, erased }: { readonly accountId: AccountId; readonly erased: Erased },
): Promise<CommandResult<ErasureAccepted>> {
  return handle(deps, context, partitionOf(accountId), async () => {
    const account = { streamId: accountId, ...(await deps.store.load(accountId, accountFold)) };
    const decision = decideCompletion(account.state, erased);
    if (!decision.ok) return decision;
    const change = changeOf(context, deps.now().toISOString(), account, accountFold, decision.events);
    return { ok: true, plan: { changes: [change], body: { id: accountId, version: change.version } } };
  });
}

/** Lets an email of the account register anew, as another one. @param emailId the stream that is named after it */
export async function releaseEmail(
  deps: CommandDeps,
  context: CommandContext,
  { emailId, accountId }: { readonly emailId: StreamId; readonly accountId: AccountId },
): Promise<CommandResult<{ readonly version: number }>> {
  return handle(deps, context, partitionOf(emailId), async () => {
    const email = { streamId: emailId, ...(await deps.store.load(emailId, emailFold)) };
    const decision = decideRelease(email.state, accountId);
    if (!decision.ok) return decision;
    const change = changeOf(context, deps.now().toISOString(), email, emailFold, decision.events);
    return { ok: true, plan: { changes: [change], body: { version: change.version } } };
  });
}
