import { type Static, Type } from 'typebox';
import type { Caller } from '../access/tokens.ts';
import { MAX_URL_LENGTH } from '../domain/destinations.ts';
import { HTTP_REQUEST_JOB } from '../domain/http-requests.ts';
import { type JobTypes, jobOf, mayEnqueue } from '../domain/job-types.ts';
import { type JobEnqueued, JobPriority, JobQueue } from '../domain/jobs/events.ts';
import { detailsOf } from './failures.ts';
import { Problem, type ProblemDetail } from './problems.ts';
import { Strict, Time } from './schemas.ts';

/** What a job is to be. Which types there are, and what their payloads are, the registry of job types says. */
export const JobRequest = Strict({
  type: Type.String({ maxLength: 64, examples: ['echo'] }),
  payload: Type.Unknown({
    description: 'As the type has it; at most 256 KiB. What is larger belongs in a file.',
  }),
  queue: Type.Optional(JobQueue),
  priority: Type.Optional(JobPriority),
  runAt: Type.Optional(Time),
  orderingKey: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 200,
      description:
        'Your jobs of one queue with the same key run strictly one after another, in the order in which they become due. Not together with `priority`.',
    }),
  ),
  concurrencyKey: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: 200,
      description: 'Of your jobs with the same key at most `concurrencyLimit` run at once, over all queues.',
    }),
  ),
  concurrencyLimit: Type.Optional(
    Type.Integer({
      minimum: 1,
      maximum: 1000,
      description: 'Only together with `concurrencyKey`. Default: the one of the type, or 1.',
    }),
  ),
  maxAttempts: Type.Optional(Type.Integer({ minimum: 1, maximum: 100 })),
  timeoutSeconds: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 86_400, description: 'Of one attempt.' }),
  ),
  callbackUrl: Type.Optional(
    Type.String({
      minLength: 1,
      maxLength: MAX_URL_LENGTH,
      description: 'Is sent a signed POST when the job ends. Only where this installation lets requests go.',
      examples: ['https://api.example.com/hooks/jobs'],
    }),
  ),
});
export type JobRequest = Static<typeof JobRequest>;

/** A payload is part of an event. */
const PAYLOAD_BYTES = 256 * 1024;
const MAX_ERRORS = 20;
const FURTHEST_YEARS = 10;

/**
 * The job that a request asks for, with its type's settings where it says nothing. Throws a `Problem`: 400 with
 * pointers, 403 for a type that the caller may not run.
 *
 * @param at JSON pointer of the request within the body
 */
export function jobWanted(
  types: JobTypes,
  caller: Pick<Caller, 'role'>,
  request: JobRequest,
  now: Date,
  at = '',
): Static<typeof JobEnqueued> {
  const type = types.get(request.type);
  if (!type) throw wrong([{ pointer: `${at}/type`, detail: 'is no type of jobs here' }]);
  if (!mayEnqueue(type, caller.role)) {
    throw new Problem('forbidden', `Jobs of the type ${type.type} are not yours to enqueue.`);
  }
  const faults = type.faults(request.payload);
  if (faults.length > 0) {
    const errors = faults.flatMap((fault) => detailsOf(fault, 'body', `${at}/payload`));
    throw wrong(errors.slice(0, MAX_ERRORS));
  }
  if (Buffer.byteLength(JSON.stringify(request.payload)) > PAYLOAD_BYTES) {
    throw wrong([{ pointer: `${at}/payload`, detail: 'is larger than 256 KiB: put it in a file' }]);
  }
  const objection = type.permit?.(request.payload);
  if (objection?.kind === 'forbidden') throw new Problem('forbidden', objection.detail);
  if (objection) {
    throw wrong([{ pointer: `${at}/payload${objection.path}`, detail: objection.detail }]);
  }
  const unreachable = callbackFault(types, request.callbackUrl);
  if (unreachable) throw wrong([{ pointer: `${at}/callbackUrl`, detail: unreachable }]);
  // Written so that what is no time at all is refused, too.
  if (request.runAt !== undefined && !(Date.parse(request.runAt) <= furthest(now))) {
    throw wrong([{ pointer: `${at}/runAt`, detail: `is more than ${FURTHEST_YEARS} years away` }]);
  }
  const clashes = clashing(request, at);
  if (clashes.length > 0) throw wrong(clashes);
  return jobOf(type, request.payload, request);
}

/** A callback is an `http.request`: what may be enqueued as one may be called back. */
function callbackFault(types: JobTypes, url: string | undefined): string | undefined {
  if (url === undefined) return undefined;
  const requests = types.get(HTTP_REQUEST_JOB);
  return requests ? requests.permit?.({ url })?.detail : 'cannot be called by this installation';
}

/** What cannot be asked for together. */
function clashing(
  { orderingKey, priority, concurrencyKey, concurrencyLimit }: JobRequest,
  at: string,
): ProblemDetail[] {
  const problems: ProblemDetail[] = [];
  if (orderingKey !== undefined && priority !== undefined) {
    problems.push({
      pointer: `${at}/priority`,
      detail: 'and orderingKey exclude one another: a priority would let a later job overtake',
    });
  }
  if (concurrencyLimit !== undefined && concurrencyKey === undefined) {
    problems.push({
      pointer: `${at}/concurrencyLimit`,
      detail: 'is the limit of a concurrencyKey: name one',
    });
  }
  return problems;
}

function wrong(errors: readonly ProblemDetail[]): Problem {
  return new Problem('invalid_request', 'The job is not as it should be; see errors.', { errors });
}

function furthest(now: Date): number {
  return new Date(now).setUTCFullYear(now.getUTCFullYear() + FURTHEST_YEARS);
}
