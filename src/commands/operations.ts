import type { Decision } from '../domain/decision.ts';
import { partitionOf } from '../domain/ids.ts';
import { recordOperation as decide, type Operation, operationFold } from '../domain/operations.ts';
import { type CommandContext, type CommandDeps, type CommandResult, changeOf, handle } from './handle.ts';
import { anyPartition, mintId, streamFor } from './mint.ts';

export type OperationRecorded = {
  /** Of the record's stream; events that follow from the operation name it as their causation. */
  readonly id: string;
  readonly version: number;
};

/**
 * Records what an operator is about to do, by whom (`context.actor`) and why (`context.reason`): call it before the
 * change, and make the change only if this is `done`. Changes whose own events carry a reason need no record.
 *
 * With an idempotency key it is recorded once, however often the request comes. Refused with `reason_missing`.
 * Throws as `handle` does: then nothing may be changed either.
 * @param allowed refuses what can't be done now, before it is recorded; what was recorded under this key goes on, as it may
 * be what makes it so
 *
 * @example
 * const recorded = await recordOperation(deps, context, {
 *   operation: 'projection.rebuild', target: 'jobs', parameters: { drop: true },
 * });
 * if (recorded.kind !== 'done') return recorded;
 */
export async function recordOperation(
  deps: CommandDeps,
  asked: CommandContext,
  operation: Operation,
  allowed?: () => Promise<Decision<never>>,
): Promise<CommandResult<OperationRecorded>> {
  const context = ofTheRecord(asked);
  const partition = anyPartition(deps);
  const minted = await mintId(deps, context, 'op', partition);
  if (!minted.ok) return { kind: 'key_reused' };
  return handle<OperationRecorded>(deps, context, partitionOf(minted.id), async () => {
    const may = await allowed?.();
    if (may && !may.ok) return may;
    const record = await streamFor(deps, minted.id, operationFold, minted.fresh);
    const decision = decide(record.state, operation, context.reason);
    if (!decision.ok) return decision;
    const change = changeOf(context, deps.now().toISOString(), record, operationFold, decision.events);
    return { ok: true, plan: { changes: [change], body: { id: minted.id, version: change.version } } };
  });
}

/** The record is the installation's, and its claim another than that of the change which it is about. */
function ofTheRecord({ owner: _asker, idempotency, ...context }: CommandContext): CommandContext {
  if (!idempotency) return context;
  return { ...context, idempotency: { ...idempotency, key: `${idempotency.key}-op` } };
}
