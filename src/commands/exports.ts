import {
  requestExport as decideExport,
  EXPORT_JOB,
  type ExportFormat,
  exportFold,
} from '../domain/exports.ts';
import { type ExportId, type JobId, jobOfExport, partitionOf } from '../domain/ids.ts';
import { enqueueJob, jobFold } from '../domain/jobs.ts';
import {
  type CommandContext,
  type CommandDeps,
  type CommandResult,
  changeOf,
  handle,
  mintId,
  streamFor,
} from './handle.ts';

export type ExportAccepted = {
  readonly id: ExportId;
  readonly version: number;
  readonly jobId: JobId;
  readonly status: 'queued';
};

/**
 * Asks for an export of events: the caller's own, or all of them for an operator. The request and its job
 * are one commit. The heads of all partitions are taken before it: what they cover is what the file holds.
 */
export async function requestExport(
  deps: CommandDeps,
  context: CommandContext,
  input: { readonly dataset: 'events'; readonly format: ExportFormat; readonly scope: 'own' | 'all' },
): Promise<CommandResult<ExportAccepted>> {
  const anywhere =
    Number.parseInt(deps.hmac('spread', deps.randomText(20)).slice(0, 8), 16) % deps.store.partitions;
  const minted = await mintId(deps, context, 'exp', anywhere);
  if (!minted.ok) return { kind: 'key_reused' };
  const exportId: ExportId = minted.id;
  const jobId = jobOfExport(exportId);
  const heads = await deps.store.heads();

  return handle(deps, context, partitionOf(exportId), async () => {
    const job = await streamFor(deps, jobId, jobFold, minted.fresh);
    const request = await streamFor(deps, exportId, exportFold, minted.fresh);
    const enqueued = enqueueJob(job.state, {
      type: EXPORT_JOB,
      payload: { exportId },
      queue: 'exports',
      priority: 'normal',
      maxAttempts: 5,
      timeoutSeconds: 3600,
    });
    if (!enqueued.ok) return enqueued;
    const requested = decideExport(request.state, { ...input, jobId, heads });
    if (!requested.ok) return requested;
    const now = deps.now();
    const at = now.toISOString();
    const changes = [
      changeOf(context, at, job, jobFold, enqueued.events),
      changeOf(context, at, request, exportFold, requested.events),
    ];
    return {
      ok: true,
      plan: {
        changes,
        ...(enqueued.events.length > 0
          ? {
              work: [{ queue: 'exports', priority: 'normal', jobId, type: EXPORT_JOB, dueAt: now.getTime() }],
            }
          : {}),
        // An export's version counts what happened to it and to its job.
        body: { id: exportId, version: 2, jobId, status: 'queued' },
      },
    };
  });
}
