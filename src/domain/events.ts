import type { TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import {
  AccountErased,
  AccountErasureCompleted,
  type AccountEvent,
  AccountRegistered,
  EmailClaimed,
  type EmailEvent,
  EmailReleased,
} from './accounts.ts';
import type { EventMeta, RawEvent, Recorded } from './event.ts';
import { type ExportEvent, ExportRequested } from './exports.ts';
import {
  JobAttemptFailed,
  JobCancelled,
  JobCancelRequested,
  JobCompleted,
  JobDeadLettered,
  JobDiscarded,
  JobEnqueued,
  type JobEvent,
  JobInterrupted,
  JobProgressed,
  JobRetried,
  JobSnoozed,
  JobStarted,
} from './jobs/events.ts';
import { type OperationEvent, OperationRecorded } from './operations.ts';
import { type QueueEvent, QueuePaused, QueueResumed } from './queues.ts';
import { ScheduleCreated, ScheduleDeleted, type ScheduleEvent, ScheduleTicked } from './schedules.ts';
import { SessionEnded, type SessionEvent, SessionRefreshed, SessionStarted } from './sessions.ts';

export type DomainEvent =
  | AccountEvent
  | EmailEvent
  | SessionEvent
  | JobEvent
  | ExportEvent
  | QueueEvent
  | ScheduleEvent
  | OperationEvent;
export type DomainEventType = DomainEvent['type'];
export type RecordedEvent = Recorded<DomainEvent>;

type Definition = {
  /** Version of the shape that this code writes. */
  readonly schema: number;
  readonly data: TSchema;
  readonly summary: string;
  /** `upcast[n]` turns data of schema n into schema n + 1. */
  readonly upcast?: Readonly<Record<number, (data: unknown) => unknown>>;
};

/** What schema 1 says in plain text 2 says sealed, in the same places: who opens it finds out which it is. */
const sealedSince = { 1: (data: unknown) => data };

/**
 * Every event this code knows. Names are stored: identifiers for life. A new event is added here one release
 * before anything emits it, so that no reader meets a type that it doesn't know.
 */
export const eventTypes: Readonly<Record<DomainEventType, Definition>> = {
  AccountRegistered: { schema: 1, data: AccountRegistered, summary: 'A person registered.' },
  EmailClaimed: { schema: 1, data: EmailClaimed, summary: 'An email now belongs to an account.' },
  EmailReleased: { schema: 1, data: EmailReleased, summary: 'An email belongs to no account any more.' },
  AccountErased: {
    schema: 1,
    data: AccountErased,
    summary: 'An account is closed for good; what is known of the person goes.',
  },
  AccountErasureCompleted: {
    schema: 1,
    data: AccountErasureCompleted,
    summary: 'Nothing is left that was known of the person.',
  },
  SessionStarted: { schema: 1, data: SessionStarted, summary: 'Somebody logged in.' },
  SessionRefreshed: { schema: 1, data: SessionRefreshed, summary: 'A session got new tokens.' },
  SessionEnded: { schema: 1, data: SessionEnded, summary: 'A session ended; its tokens work no more.' },
  JobEnqueued: { schema: 2, upcast: sealedSince, data: JobEnqueued, summary: 'A job waits to be run.' },
  JobStarted: { schema: 1, data: JobStarted, summary: 'A worker began a run of a job.' },
  JobProgressed: {
    schema: 2,
    upcast: sealedSince,
    data: JobProgressed,
    summary: 'A running job said how far it is.',
  },
  JobCompleted: {
    schema: 2,
    upcast: sealedSince,
    data: JobCompleted,
    summary: 'A job ended well; its result is in the event.',
  },
  JobAttemptFailed: {
    schema: 2,
    upcast: sealedSince,
    data: JobAttemptFailed,
    summary: 'An attempt failed; the job is tried again.',
  },
  JobDeadLettered: {
    schema: 2,
    upcast: sealedSince,
    data: JobDeadLettered,
    summary: 'A job failed for good and waits for an operator.',
  },
  JobInterrupted: {
    schema: 1,
    data: JobInterrupted,
    summary: 'A worker stopped and left a run to its successor; this is no attempt.',
  },
  JobSnoozed: { schema: 1, data: JobSnoozed, summary: 'A handler asked to be run again later; no attempt.' },
  JobDiscarded: {
    schema: 1,
    data: JobDiscarded,
    summary: 'An operator gave a dead letter up; what waited behind it goes on.',
  },
  JobCancelRequested: {
    schema: 1,
    data: JobCancelRequested,
    summary: 'A running job is to end; its worker stops it.',
  },
  JobCancelled: {
    schema: 2,
    upcast: sealedSince,
    data: JobCancelled,
    summary: 'A job was cancelled; no run of it counts any more.',
  },
  JobRetried: {
    schema: 1,
    data: JobRetried,
    summary: 'A job that had failed or was cancelled is to be run again.',
  },
  QueuePaused: { schema: 1, data: QueuePaused, summary: 'Nothing more of a queue is begun.' },
  QueueResumed: { schema: 1, data: QueueResumed, summary: 'A paused queue goes on.' },
  ExportRequested: { schema: 1, data: ExportRequested, summary: 'Somebody asked for an export.' },
  ScheduleCreated: {
    schema: 2,
    upcast: sealedSince,
    data: ScheduleCreated,
    summary: 'A job is to be run again and again.',
  },
  ScheduleTicked: {
    schema: 1,
    data: ScheduleTicked,
    summary: 'A schedule enqueued a run, or passed over ticks that were missed.',
  },
  ScheduleDeleted: { schema: 1, data: ScheduleDeleted, summary: 'A schedule enqueues no more runs.' },
  OperationRecorded: {
    schema: 1,
    data: OperationRecorded,
    summary: 'An operator had something done: who and why are in the metadata.',
  },
};

/** The event is of a type, or a schema, that only newer code knows: leave it to that code. */
export class UnknownEventError extends Error {
  override readonly name = 'UnknownEventError';
}

/** The event's data is not what its type promises. */
export class EventDecodeError extends Error {
  override readonly name = 'EventDecodeError';
}

/** Decodes, upcasts and validates events against a table of definitions. */
export function createCodec(types: Readonly<Record<string, Definition>>) {
  const validators = new Map(Object.entries(types).map(([type, { data }]) => [type, Compile(data)]));
  const defined = (type: string) => {
    const definition = Object.hasOwn(types, type) ? types[type] : undefined;
    const validator = validators.get(type);
    if (!definition || !validator) throw new UnknownEventError(`event type ${type} is unknown to this code`);
    return { definition, validator };
  };
  return {
    /** Whether this code knows the type; a newer schema of it may still be beyond it. */
    knows(type: string): boolean {
      return validators.has(type);
    },
    /** Throws `EventDecodeError` if `data` is not what the type promises: a bug of the caller. */
    check(type: string, data: unknown): number {
      const { definition, validator } = defined(type);
      if (!validator.Check(data)) throw new EventDecodeError(`${type}: ${describe(validator.Errors(data))}`);
      return definition.schema;
    },
    /** Throws `UnknownEventError` or `EventDecodeError`. */
    decode(raw: RawEvent): RecordedEvent {
      const { definition, validator } = defined(raw.type);
      let data: unknown;
      let meta: EventMeta;
      try {
        data = JSON.parse(raw.data);
        meta = JSON.parse(raw.meta);
      } catch {
        throw new EventDecodeError(`event ${raw.id} is not JSON`);
      }
      if (meta.schema > definition.schema) {
        throw new UnknownEventError(
          `${raw.type} has schema ${meta.schema}; this code knows ${definition.schema}`,
        );
      }
      for (let schema = meta.schema; schema < definition.schema; schema++) {
        const step = definition.upcast?.[schema];
        if (!step) throw new EventDecodeError(`${raw.type}: no upcast from schema ${schema}`);
        data = step(data);
      }
      if (!validator.Check(data)) {
        throw new EventDecodeError(`event ${raw.id} (${raw.type}): ${describe(validator.Errors(data))}`);
      }
      // Each by its name: a spread takes V8 three times as long, and this is done for every event of every group.
      const { partition, epoch, seq, id, streamId, version, type } = raw;
      return { partition, epoch, seq, id, streamId, version, type, data, meta } as RecordedEvent;
    },
  };
}

function describe(errors: readonly { instancePath: string; message: string }[]): string {
  return errors.map((error) => `${error.instancePath || '/'} ${error.message}`).join('; ');
}

export type EventCodec = ReturnType<typeof createCodec>;
export const codec: EventCodec = createCodec(eventTypes);
