import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import type { FastifySchemaValidationError } from 'fastify/types/schema.js';
import { NotIncludedError } from '../projections/reading.ts';
import { notIncluded } from './consistency.ts';
import type { ProblemCode } from './problem-types.ts';
import { instanceOf, Problem, type ProblemDetail, sendProblem } from './problems.ts';

/** Errors of a body with thousands of wrong parts would be longer than the body. */
const MAX_ERRORS = 20;

type Known = { readonly code: ProblemCode; readonly detail: string };

const outages = {
  away: { code: 'store_unavailable', detail: 'The event store is away. Nothing was done.' },
  fenced: {
    code: 'store_fenced',
    detail: 'Commands are stopped until an operator has looked at the event store. Nothing was done.',
  },
} as const satisfies Record<string, Known>;

/** What the parts below throw, by the error's `name`: they are not imported here. */
const byName: Readonly<Record<string, Known>> = {
  StoreUnavailableError: outages.away,
  StoreFencedError: outages.fenced,
  MemoryGuardError: { code: 'store_unavailable', detail: 'The event store is full. Nothing was done.' },
  OutcomeUnknownError: {
    code: 'outcome_unknown',
    detail: 'The reply of the event store was lost. The same Idempotency-Key asks again.',
  },
  // In the middle of a rotation of the master key, a process that does not know the new one yet.
  MasterKeyMissingError: {
    code: 'read_store_unavailable',
    detail: 'What was sealed for this person cannot be opened here now. Nothing was done.',
  },
  TooBusyError: { code: 'too_busy', detail: 'Too many ask for this at once. Nothing was done.' },
};

/** The event store is away, or can't be trusted. Undefined: a bug, or none of its errors. */
export function storeOutageOf(error: unknown): 'away' | 'fenced' | undefined {
  const code = error instanceof Error ? byName[error.name]?.code : undefined;
  return code === 'store_unavailable' ? 'away' : code === 'store_fenced' ? 'fenced' : undefined;
}

/** What a command is told that can't even be authenticated for it. */
export function storeOutage(outage: 'away' | 'fenced'): Problem {
  const { code, detail } = outages[outage];
  return new Problem(code, detail);
}

const DATABASE_AWAY =
  /^(ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|08\w{3}|53[0-3]00|57P0[1-5]|57014|25006)$/;
const DATABASE_LOST =
  /connection terminated|timeout exceeded when trying to connect|client has encountered a connection error/i;

/** Postgres is away, restarting, full or a replica now: it was not this request's fault. */
function isDatabaseOutage(error: unknown): boolean {
  if (error instanceof AggregateError) return error.errors.some(isDatabaseOutage);
  if (!(error instanceof Error)) return false;
  if ('code' in error && typeof error.code === 'string' && DATABASE_AWAY.test(error.code)) return true;
  return DATABASE_LOST.test(error.message);
}

const databaseAway = (error: unknown) =>
  new Problem('read_store_unavailable', 'The database is away. Nothing was done.', { cause: error });

/**
 * A read of events for which Postgres is away. Below, where nobody knows who asks, it is one outage with that of Redis: to a
 * command it is all the same, but of a query it must not be said that commands were not accepted.
 */
function readOutage(error: unknown, method: string): Problem | undefined {
  if (method !== 'GET' && method !== 'HEAD') return undefined;
  const isOutage = error instanceof Error && error.name === 'StoreUnavailableError';
  return isOutage && isDatabaseOutage(error.cause) ? databaseAway(error) : undefined;
}

/** The client left before its request was whole: Node's error of that looks like a connection that *we* lost. */
function isBrokenOff(error: Error): boolean {
  return error.message === 'aborted' && 'code' in error && error.code === 'ECONNRESET';
}

/** What a client is told of an error. Undefined: a bug, of which it is told nothing. */
export function problemOf(error: unknown): Problem | undefined {
  if (error instanceof Problem) return error;
  if (!(error instanceof Error)) return undefined;
  if (error instanceof NotIncludedError) return notIncluded(error);
  if (error.name === 'DurabilityNotReachedError') return durabilityNotReached(error);
  if (isBrokenOff(error)) return new Problem('invalid_request', 'The request broke off.');
  const known = Object.hasOwn(byName, error.name) ? byName[error.name] : undefined;
  if (known) return new Problem(known.code, known.detail, { cause: error });
  if (isDatabaseOutage(error)) return databaseAway(error);
  return fastifyProblem(error);
}

function durabilityNotReached(error: Error): Problem {
  const position = 'position' in error && typeof error.position === 'string' ? error.position : undefined;
  return new Problem(
    'durability_not_reached',
    'The command stands, but was not as durable as asked in time. The same Idempotency-Key waits again.',
    // What every command has that was answered at all.
    { headers: { ...(position ? { position } : {}), durability: 'memory' }, cause: error },
  );
}

function fastifyProblem(error: Error & Partial<FastifyError>): Problem | undefined {
  if (error.validation) return validationProblem(error.validation, error.validationContext ?? 'body');
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new Problem('body_too_large', 'The body is larger than this route takes.');
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new Problem('unsupported_media_type', 'Send the body as application/json.');
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return new Problem('invalid_request', 'The body is not as long as Content-Length says.');
    case 'FST_ERR_BAD_URL':
      return new Problem('malformed_url', 'The path is not percent-encoded as it should be.');
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return new Problem('not_found', 'There is nothing at this path: no id is that long.');
    default:
      return undefined;
  }
}

function validationProblem(found: readonly FastifySchemaValidationError[], where: string): Problem {
  const errors = found
    .filter((error, _index, all) => all.length === 1 || !isNullOr(error))
    .flatMap((error) => detailsOf(error, where))
    .slice(0, MAX_ERRORS);
  return new Problem('invalid_request', 'The request is not as it should be; see errors.', { errors });
}

/** That nothing at all would have done, too, helps nobody who has sent something. */
function isNullOr({ keyword, params }: FastifySchemaValidationError): boolean {
  return keyword === 'anyOf' || (keyword === 'type' && params.type === 'null');
}

/** @param at JSON pointer of what was validated, within the body */
export function detailsOf(
  error: Pick<FastifySchemaValidationError, 'keyword' | 'instancePath' | 'message'> & {
    readonly params: object;
  },
  where: string,
  within = '',
): ProblemDetail[] {
  const path = `${within}${error.instancePath}`;
  const at = (name: string, detail: string): ProblemDetail =>
    where === 'body'
      ? { pointer: name === '' ? path : `${path}/${escapePointer(name)}`, detail }
      : { parameter: name === '' ? path.slice(1) : name, detail };
  const { requiredProperties, additionalProperties }: Record<string, unknown> = { ...error.params };
  if (error.keyword === 'required') return names(requiredProperties).map((name) => at(name, 'is required'));
  if (error.keyword === 'additionalProperties') {
    return names(additionalProperties).map((name) => at(name, 'is not known here'));
  }
  // Says the same as `additionalProperties`, once more for each of them.
  if (error.keyword === 'boolean') return [];
  return [at('', error.message ?? 'is not valid')];
}

function names(value: unknown): string[] {
  return Array.isArray(value) ? value.map((name) => String(name).slice(0, 100)) : [];
}

/**
 * Who is still sending is heard out (for as long as a request may take), as with any other refusal: cut off, many clients
 * report a broken connection, and never read why.
 */
function takeTheRest({ raw }: FastifyRequest, reply: FastifyReply): void {
  reply.removeHeader('connection');
  raw.resume();
}

/** RFC 6901. */
export function escapePointer(name: string): string {
  return name.replaceAll('~', '~0').replaceAll('/', '~1');
}

/** The last resort of every route: an answer without internals, and a log line with them. */
export function answerFailure(error: unknown, request: FastifyRequest, reply: FastifyReply): FastifyReply {
  const problem =
    readOutage(error, request.method) ??
    problemOf(error) ??
    new Problem('internal_error', 'This should not have happened.');
  const instance = instanceOf(request);
  if (problem.code === 'body_too_large') takeTheRest(request, reply);
  // It said how far an answer is; there is none.
  if (request.wanted) reply.removeHeader('position');
  if (problem.code === 'internal_error') request.log.error({ err: error, instance }, 'request failed');
  else if (problem.cause)
    request.log.warn({ err: problem.cause, instance, code: problem.code }, 'request refused');
  return sendProblem(request, reply, problem);
}
