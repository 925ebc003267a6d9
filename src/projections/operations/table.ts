import type { Selectable } from 'kysely';
import type { Recorded } from '../../domain/event.ts';
import type { DomainEvent } from '../../domain/events.ts';
import { parseStreamId } from '../../domain/ids.ts';
import { traceIdOf } from '../../telemetry/tracing.ts';
import type { Projection } from '../projection.ts';

export type OperationsTable = {
  /** The record's stream; or that of what was changed, with the event's version: `job-0f….3`. */
  id: string;
  operation: string;
  target: string;
  /** JSON text. */
  parameters: string;
  actor: string;
  reason: string;
  correlation: string;
  trace_id: string | null;
  version: number;
  created_at: Date;
};
export type OperationRow = Selectable<OperationsTable>;

type AuditedEvent = Extract<
  DomainEvent,
  {
    type:
      | 'OperationRecorded'
      | 'QueuePaused'
      | 'QueueResumed'
      | 'JobCancelRequested'
      | 'JobCancelled'
      | 'JobRetried'
      | 'JobDiscarded'
      | 'AccountRegistered';
  }
>;

/**
 * Every change of an operator: recorded as such, or told by an event of what was changed that says why. Owners who
 * change what is theirs are not in it, nor what follows from a record (each letter of a redrive): that has a causation.
 */
export const projection: Projection<OperationRow, AuditedEvent> = {
  name: 'operations',
  version: 1,
  table: 'operations_v1',
  columns: {
    id: 'text',
    operation: 'text',
    target: 'text',
    parameters: 'text',
    actor: 'text',
    reason: 'text',
    correlation: 'text',
    trace_id: 'text',
    version: 'int',
    created_at: 'timestamptz',
  },
  handles: {
    OperationRecorded: true,
    QueuePaused: true,
    QueueResumed: true,
    JobCancelRequested: true,
    JobCancelled: true,
    JobRetried: true,
    JobDiscarded: true,
    AccountRegistered: true,
  },
  key(event) {
    if (event.type === 'OperationRecorded') return event.streamId;
    const { reason, causation, actor, owner } = event.meta;
    if (reason === undefined || causation !== undefined || actor === owner) return undefined;
    return `${event.streamId}.${event.version}`;
  },
  keyOfUndecodable(raw) {
    if (raw.type === 'OperationRecorded') return raw.streamId;
    return raw.meta.includes('"reason":') ? `${raw.streamId}.${raw.version}` : undefined;
  },
  streamsOf(key) {
    const streamId = parseStreamId(key.split('.', 1)[0] ?? '');
    return streamId === undefined ? [] : [streamId];
  },
  reduce(_row, event) {
    const { actor, reason, correlation, at, traceparent } = event.meta;
    const { operation, target, parameters } = operationOf(event);
    return {
      id: event.type === 'OperationRecorded' ? event.streamId : `${event.streamId}.${event.version}`,
      operation,
      target,
      parameters: JSON.stringify(parameters),
      actor,
      reason: reason ?? '',
      correlation,
      trace_id: traceIdOf(traceparent) ?? null,
      version: event.version,
      created_at: new Date(at),
    };
  },
};

/** Names of operations are stored, and filtered by: identifiers for life. */
function operationOf(event: Recorded<AuditedEvent>): {
  readonly operation: string;
  readonly target: string;
  readonly parameters: Readonly<Record<string, unknown>>;
} {
  const of = (operation: string, target: string, parameters = {}) => ({ operation, target, parameters });
  switch (event.type) {
    case 'OperationRecorded':
      return event.data;
    case 'QueuePaused':
      return of('queue.pause', event.data.queue);
    case 'QueueResumed':
      return of('queue.resume', event.data.queue);
    case 'JobCancelRequested':
    case 'JobCancelled':
      return of('job.cancel', event.streamId);
    case 'JobRetried':
      return of('job.retry', event.streamId);
    case 'JobDiscarded':
      return of('job.discard', event.streamId);
    case 'AccountRegistered':
      return of('account.create', event.streamId, { role: event.data.role });
  }
}
