import type { FastifyReply, FastifyRequest } from 'fastify';
import { traceparentOf } from '../telemetry/http.ts';
import { type ProblemCode, problemTypes } from './problem-types.ts';

/** What is wrong with one part of a request. */
export type ProblemDetail =
  | { readonly pointer: string; readonly detail: string }
  | { readonly parameter: string; readonly detail: string };

/** Thrown where a request can't go on; the error handler answers it. Expected: it is not logged. */
export class Problem extends Error {
  override readonly name = 'Problem';
  readonly code: ProblemCode;
  readonly errors: readonly ProblemDetail[];
  readonly headers: Readonly<Record<string, string>>;

  constructor(
    code: ProblemCode,
    detail: string,
    more: {
      errors?: readonly ProblemDetail[];
      headers?: Readonly<Record<string, string>>;
      cause?: unknown;
    } = {},
  ) {
    super(detail, more.cause === undefined ? {} : { cause: more.cause });
    this.code = code;
    this.errors = more.errors ?? [];
    this.headers = more.headers ?? {};
  }
}

/** One part of the request is wrong. */
export function invalid(parameter: string, detail: string): Problem {
  return new Problem('invalid_request', `${parameter}: ${detail}`, { errors: [{ parameter, detail }] });
}

/** RFC 9457. `instance` names this occurrence; the log has the same. */
export function problemBody(problem: Problem, instance: string, traceId: string | undefined) {
  const { status, title } = problemTypes[problem.code];
  return {
    type: `/problems/${problem.code}`,
    title,
    status,
    detail: problem.message,
    instance,
    code: problem.code,
    ...(traceId ? { traceId } : {}),
    ...(problem.errors.length > 0 ? { errors: problem.errors } : {}),
  };
}

export function instanceOf(request: FastifyRequest): string {
  return `urn:uuid:${request.id}`;
}

const CHALLENGE = 'Bearer realm="millrace"';

/** Answers with a problem, and with the headers that its status calls for. */
export function sendProblem(request: FastifyRequest, reply: FastifyReply, problem: Problem): FastifyReply {
  const { status } = problemTypes[problem.code];
  const traceId = traceparentOf(request)?.split('-')[1];
  // What the route had prepared for its success says nothing about this answer.
  for (const header of ['etag', 'location', 'content-disposition']) reply.removeHeader(header);
  if (status === 503) reply.header('retry-after', '1');
  if (status === 401) {
    const error = problem.code === 'invalid_token' ? ', error="invalid_token"' : '';
    reply.header('www-authenticate', `${CHALLENGE}${error}`);
  }
  return reply
    .code(status)
    .header('cache-control', 'no-store')
    .headers(problem.headers)
    .type('application/problem+json')
    .send(JSON.stringify(problemBody(problem, instanceOf(request), traceId)));
}
