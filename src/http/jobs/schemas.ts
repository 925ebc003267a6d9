import { Type } from 'typebox';
import type { Caller } from '../../access/tokens.ts';
import { DeadLetterReason, JobPriority } from '../../domain/jobs/events.ts';
import type { JobView } from '../../projections/jobs/queries.ts';
import { failureOf } from '../job-failure.ts';
import { Failure, Id, Status, Time, Version } from '../schemas.ts';

export const Job = Type.Object(
  {
    id: Id,
    type: Type.String(),
    queue: Type.String(),
    priority: JobPriority,
    orderingKey: Type.Optional(Type.String()),
    concurrencyKey: Type.Optional(Type.String()),
    callbackUrl: Type.Optional(Type.String()),
    status: Status,
    parked: Type.Optional(
      Type.Literal(true, { description: 'It waits behind a dead letter of its ordering key.' }),
    ),
    attempts: Type.Integer(),
    progress: Type.Number({ minimum: 0, maximum: 100, description: 'Percent.' }),
    result: Type.Optional(Type.Unknown()),
    error: Type.Optional(Failure),
    reason: Type.Optional({ ...DeadLetterReason, description: 'Why it failed for good.' }),
    discarded: Type.Optional(
      Type.Literal(true, { description: 'It failed for good and was given up: nothing waits behind it.' }),
    ),
    worker: Type.Optional(Type.String({ description: 'Who ran it last.' })),
    createdAt: Time,
    dueAt: { ...Time, description: 'When it became due, or will.' },
    startedAt: Type.Optional(Time),
    finishedAt: Type.Optional(Time),
    traceId: Type.Optional(Type.String()),
    version: Version,
  },
  { description: 'A job.' },
);

export const Accepted = Type.Object(
  { id: Id, version: Version, status: Status },
  { description: 'It is on its way; ask for it at Location.' },
);

/** Operators see everybody's. */
export function ownerOf({ accountId, role }: Caller): string | undefined {
  return role === 'operator' ? undefined : accountId;
}

/** Without the stack of a failure, which tells about our insides. */
export function shown({ error, owner: _, ...job }: JobView) {
  return { ...job, ...(error === undefined ? {} : { error: failureOf(error) }) };
}
