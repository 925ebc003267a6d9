import type { Selectable } from 'kysely';
import type { Recorded } from '../../domain/event.ts';
import type { DeadLetterReason, JobEvent } from '../../domain/jobs/events.ts';
import { traceIdOf } from '../../telemetry/tracing.ts';
import type { Projection } from '../projection.ts';

/** Part of the HTTP contract, and stored in rows: identifiers for life. */
export const LETTER_STATUSES = ['dead', 'redriven', 'discarded'] as const;
export type LetterStatus = (typeof LETTER_STATUSES)[number];

/** Jobs that failed for good, once at least. What their attempts were is in their streams, and nowhere else. */
export type DeadLettersTable = {
  /** The job's. */
  id: string;
  owner: string | null;
  type: string;
  /** Of letters that were written before their events said where they stand. */
  queue: string | null;
  ordering_key: string | null;
  lane: string | null;
  status: LetterStatus;
  reason: DeadLetterReason;
  attempts: number;
  /** How often it failed for good. */
  deaths: number;
  /** The last failure as JSON text, without its stack. */
  error: string;
  fingerprint: string | null;
  worker: string | null;
  ignored_abort: boolean;
  died_at: Date;
  partition: number;
  /** Of the event that made it a dead letter, last; tells what was dead when something was asked for. */
  seq: number;
  /** The job's version with that event: who decides about the letter decides about this. */
  letter_version: number;
  settled_at: Date | null;
  settled_by: string | null;
  /** The reason that was given. */
  settled_for: string | null;
  /** The correlation of what settled it. */
  settled_in: string | null;
  trace_id: string | null;
  version: number;
};

export type DeadLetterRow = Selectable<DeadLettersTable>;
type LetterEvent = Extract<JobEvent, { type: 'JobDeadLettered' | 'JobDiscarded' | 'JobRetried' }>;

export const projection: Projection<DeadLetterRow, LetterEvent> = {
  name: 'dead-letters',
  version: 1,
  table: 'dead_letters_v1',
  columns: {
    id: 'text',
    owner: 'text',
    type: 'text',
    queue: 'text',
    ordering_key: 'text',
    lane: 'text',
    status: 'text',
    reason: 'text',
    attempts: 'int',
    deaths: 'int',
    error: 'text',
    fingerprint: 'text',
    worker: 'text',
    ignored_abort: 'boolean',
    died_at: 'timestamptz',
    partition: 'int',
    seq: 'bigint',
    letter_version: 'int',
    settled_at: 'timestamptz',
    settled_by: 'text',
    settled_for: 'text',
    settled_in: 'text',
    trace_id: 'text',
    version: 'int',
  },
  handles: { JobDeadLettered: true, JobDiscarded: true, JobRetried: true },
  key: (event) => event.streamId,
  reduce(row, event) {
    switch (event.type) {
      case 'JobDeadLettered':
        return died(row, event);
      case 'JobDiscarded':
        if (!row) throw new Error('a job was discarded that was no dead letter');
        return settled(row, event, 'discarded');
      case 'JobRetried':
        // Jobs that were cancelled are retried, too: those have no letter, or one that was settled before.
        return row && row.status !== 'redriven' ? settled(row, event, 'redriven') : row;
    }
  },
};

function died(
  row: DeadLetterRow | undefined,
  { data, meta, ...event }: Extract<Recorded<LetterEvent>, { type: 'JobDeadLettered' }>,
): DeadLetterRow {
  const { stack: _stack, ...error } = data.error;
  return {
    id: event.streamId,
    owner: meta.owner ?? null,
    type: data.type,
    queue: data.queue ?? null,
    ordering_key: data.orderingKey ?? null,
    lane: data.lane ?? null,
    status: 'dead',
    reason: data.reason ?? 'attempts',
    attempts: data.attempt,
    deaths: (row?.deaths ?? 0) + 1,
    error: JSON.stringify(error),
    fingerprint: error.fingerprint ?? null,
    worker: data.worker ?? null,
    ignored_abort: data.ignoredAbort ?? false,
    died_at: new Date(meta.at),
    partition: event.partition,
    seq: event.seq,
    letter_version: event.version,
    settled_at: null,
    settled_by: null,
    settled_for: null,
    settled_in: null,
    trace_id: traceIdOf(meta.traceparent) ?? null,
    version: event.version,
  };
}

function settled(
  row: DeadLetterRow,
  { meta, version }: Recorded<LetterEvent>,
  status: LetterStatus,
): DeadLetterRow {
  return {
    ...row,
    status,
    settled_at: new Date(meta.at),
    settled_by: meta.actor,
    settled_for: meta.reason ?? null,
    settled_in: meta.correlation,
    version,
  };
}
