import { type Static, Type } from 'typebox';
import type { Caller } from '../../access/tokens.ts';
import { JobPriority, JobQueue } from '../../domain/jobs/events.ts';
import type { JobView } from '../../projections/jobs.ts';
import { failureOf } from '../job-failure.ts';
import { Failure, Id, Status, Strict, Time, Version } from '../schemas.ts';

export const Job = Type.Object(
  {
    id: Id,
    type: Type.String(),
    queue: Type.String(),
    status: Status,
    attempts: Type.Integer(),
    progress: Type.Number({ minimum: 0, maximum: 100, description: 'Percent.' }),
    result: Type.Optional(Type.Unknown()),
    error: Type.Optional(Failure),
    createdAt: Time,
    startedAt: Type.Optional(Time),
    finishedAt: Type.Optional(Time),
    traceId: Type.Optional(Type.String()),
    version: Version,
  },
  { description: 'A job.' },
);

/** What a job is to be. Which types there are, and what their payloads are, the registry of job types says. */
export const JobRequest = Strict({
  type: Type.String({ maxLength: 64, examples: ['echo'] }),
  payload: Type.Unknown({
    description: 'As the type has it; at most 256 KiB. What is larger belongs in a file.',
  }),
  queue: Type.Optional(JobQueue),
  priority: Type.Optional(JobPriority),
  runAt: Type.Optional(Time),
  maxAttempts: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
  timeoutSeconds: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 86_400, description: 'Of one attempt.' }),
  ),
});
export type JobRequest = Static<typeof JobRequest>;

export const Accepted = Type.Object(
  { id: Id, version: Version, status: Status },
  { description: 'It is on its way; ask for it at Location.' },
);

/** Operators see everybody's. */
export function ownerOf({ accountId, role }: Caller): string | undefined {
  return role === 'operator' ? undefined : accountId;
}

/** Without the stack of a failure, which tells about our insides. */
export function shown({ error, ...job }: JobView) {
  return { ...job, ...(error === undefined ? {} : { error: failureOf(error) }) };
}
