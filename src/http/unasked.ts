import type { FastifyRequest } from 'fastify';
import { escapePointer } from './failures.ts';
import { Problem, type ProblemDetail } from './problems.ts';
import type { App } from './types.ts';

/**
 * Refuses parameters and fields on routes that take none, as those refuse them that take some: who sends
 * `?dryRun=true` to a route that knows no dry run would otherwise find it done.
 */
export function refuseUnasked(app: App): void {
  app.addHook('preValidation', (request, _reply, done) => done(unasked(request)));
}

const DETAIL = 'is not known here';
const MAX_ERRORS = 20;

function unasked({ query, body, routeOptions }: FastifyRequest): Problem | undefined {
  const { url = '', schema, config } = routeOptions;
  if (!url.startsWith('/v1/')) return undefined;
  const takesTicket = config.auth === 'stream';
  const parameters =
    schema?.querystring === undefined
      ? namesOf(query).filter((name) => !(takesTicket && name === 'ticket'))
      : [];
  const fields = schema?.body === undefined ? namesOf(body) : [];
  if (parameters.length === 0 && fields.length === 0) return undefined;
  const errors: ProblemDetail[] = [
    ...parameters.map((parameter) => ({ parameter, detail: DETAIL })),
    ...fields.map((name) => ({ pointer: `/${escapePointer(name)}`, detail: DETAIL })),
  ];
  return new Problem('invalid_request', 'The request is not as it should be; see errors.', {
    errors: errors.slice(0, MAX_ERRORS),
  });
}

function namesOf(value: unknown): string[] {
  if (typeof value !== 'object' || value === null) return [];
  return Object.keys(value).map((name) => name.slice(0, 100));
}
