import type { FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { Caller } from '../access/tokens.ts';
import type { CommandContext } from '../commands/handle.ts';
import { callerOf } from './authentication.ts';
import type { ContextOf } from './commands.ts';
import { invalid, Problem } from './problems.ts';
import { Strict } from './schemas.ts';
import type { App } from './types.ts';

/** Why somebody changes something; kept with the events. */
export const Reason = Type.String({
  minLength: 1,
  maxLength: 500,
  pattern: '\\S',
  description: 'Why; kept with the events.',
  examples: ['the mail server is back'],
});

export const DryRun = Strict({
  dryRun: Type.Optional(
    Type.Boolean({ description: 'Change nothing; answer what would happen. No `reason` is needed then.' }),
  ),
});

/** What is asked what would happen need not be told why: a change would have to be. On every route with `DryRun`. */
export function needNoReasonToAsk(app: App): void {
  app.addHook('preValidation', (request, _reply, done) => {
    const { query, body = {}, routeOptions } = request;
    if (routeOptions.schema?.querystring === DryRun && isObject(query) && query.dryRun === 'true') {
      if (isObject(body)) request.body = { reason: 'only asked', ...body };
    }
    done();
  });
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** The answer of a dry run. */
export const Foreseen = Type.Object(
  {
    count: Type.Integer({ minimum: 0, description: 'How many it would change.' }),
    sample: Type.Array(Type.Object({ id: Type.String(), status: Type.String() }), {
      description: 'Some of them, the first first, as they are now.',
    }),
  },
  { description: 'What would happen. Nothing was changed.' },
);

/** Who calls, if it is an operator. Throws a `Problem`: 403. */
export function operatorOf(request: FastifyRequest): Caller {
  const caller = callerOf(request);
  if (caller.role !== 'operator') throw new Problem('forbidden', 'This is for operators.');
  return caller;
}

/** The context of a change, with its reason. */
export function reasonedContext(
  contextOf: ContextOf,
  request: FastifyRequest,
  reason: string | undefined,
): CommandContext {
  return { ...contextOf(request), ...(reason === undefined ? {} : { reason }) };
}

/** A range that ends before it begins is a mistake rather than empty. Throws a `Problem`: 400. */
export function checkRange({ from, to }: { readonly from?: string; readonly to?: string }): void {
  if (from !== undefined && to !== undefined && Date.parse(from) > Date.parse(to)) {
    throw invalid('from', 'is after to');
  }
}
