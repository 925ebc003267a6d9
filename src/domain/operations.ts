import { type Static, Type } from 'typebox';
import { accept, type Decision, type Fold, refuse } from './decision.ts';
import type { FoldMeta } from './event.ts';

/**
 * What an operator had done that has no stream of its own: who and why are in the event's metadata. Nothing personal
 * belongs in it, as it is sealed with nobody's key: a person is named by their account's id.
 */
export const OperationRecorded = Type.Object({
  /** What was done, as `<thing>.<verb>`, for example `projection.rebuild`. Stored: a name for life. */
  operation: Type.String({ pattern: '^[a-z][a-z-]*(\\.[a-z-]+)+$', maxLength: 64 }),
  /** To what: a name or an id. */
  target: Type.String({ minLength: 1, maxLength: 200 }),
  /** How: as it was asked for. */
  parameters: Type.Record(Type.String({ maxLength: 64 }), Type.Unknown()),
});
export type Operation = Static<typeof OperationRecorded>;

export type OperationEvent = { type: 'OperationRecorded'; data: Operation };

/** A record is written once and never changed. */
export type OperationRecord = { readonly phase: 'none' } | { readonly phase: 'recorded' };

export const operationFold: Fold<OperationRecord, OperationEvent & FoldMeta> = {
  fold: 1,
  initial: { phase: 'none' },
  evolve: () => ({ phase: 'recorded' }),
};

/** @param reason why it is done, in the words of who does it */
export function recordOperation(
  state: OperationRecord,
  operation: Operation,
  reason: string | undefined,
): Decision<OperationEvent> {
  if (!reason?.trim()) return refuse('reason_missing', 'Say why: the reason is kept with what happens.');
  return state.phase === 'recorded' ? accept() : accept({ type: 'OperationRecorded', data: operation });
}
