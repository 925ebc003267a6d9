import { wasErased } from '../domain/accounts.ts';
import {
  requestExport as decideExport,
  type ExportFormat,
  exportFold,
  exportJobType,
} from '../domain/exports.ts';
import { type ExportId, type JobId, jobOfExport, partitionOf } from '../domain/ids.ts';
import { jobOf } from '../domain/job-types.ts';
import { enqueueJob } from '../domain/jobs/requests.ts';
import { type Job, jobFold } from '../domain/jobs/state.ts';
import { type CommandContext, type CommandDeps, type CommandResult, changeOf, handle } from './handle.ts';
import { anyPartition, mintId, streamFor } from './mint.ts';
import { ownerIsErased } from './owners.ts';
import { workOf } from './work.ts';

export type ExportAccepted = {
  readonly id: ExportId;
  readonly version: number;
  readonly jobId: JobId;
  readonly status: 'queued';
};

/**
 * Asks for an export of events: the caller's own, or all of them for an operator. The request and its job
 * are one commit. The heads of all partitions are taken before it: what they cover is what the file holds. Refused with
 * `account_erased`.
 */
export async function requestExport(
  deps: CommandDeps,
  context: CommandContext,
  input: { readonly dataset: 'events'; readonly format: ExportFormat; readonly scope: 'own' | 'all' },
): Promise<CommandResult<ExportAccepted>> {
  const minted = await mintId(deps, context, 'exp', anyPartition(deps));
  if (!minted.ok) return { kind: 'key_reused' };
  const exportId: ExportId = minted.id;
  const jobId = jobOfExport(exportId);
  const heads = await deps.store.heads();

  return handle(deps, context, partitionOf(exportId), async () => {
    if (await ownerIsErased(deps, context.owner)) return wasErased();
    const job = await streamFor(deps, jobId, jobFold, minted.fresh);
    const request = await streamFor(deps, exportId, exportFold, minted.fresh);
    const enqueued = enqueueJob(job.state, jobOf(exportJobType, { exportId }));
    if (!enqueued.ok) return enqueued;
    const requested = decideExport(request.state, { ...input, jobId, heads });
    if (!requested.ok) return requested;
    const at = deps.now().toISOString();
    const enqueuing = changeOf(context, at, job, jobFold, enqueued.events);
    const changes = [enqueuing, changeOf(context, at, request, exportFold, requested.events)];
    return {
      ok: true,
      plan: {
        changes,
        ...(enqueued.events.length > 0 ? workOf(jobId, enqueuing.state.value as Job) : {}),
        // An export's version counts what happened to it and to its job.
        body: { id: exportId, version: 2, jobId, status: 'queued' },
      },
    };
  });
}
