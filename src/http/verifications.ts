import { Type } from 'typebox';
import type { CommandContext, CommandResult } from '../commands/handle.ts';
import type { JobAccepted } from '../commands/jobs/requests.ts';
import type { Refusal } from '../domain/decision.ts';
import type { VerificationPayload } from '../domain/verifications.ts';
import { type ContextOf, commandAnswer, doneOf } from './commands.ts';
import { DryRun, Foreseen, operatorOf, Reason, reasonedContext } from './operators.ts';
import { Problem } from './problems.ts';
import { Id, Status, Strict, Time, Version } from './schemas.ts';
import type { Routes } from './types.ts';

const Accepted = Type.Object(
  { id: Id, version: Version, status: Status },
  { description: 'A job verifies it; its result says {rows, events, wrong, findings}.' },
);

const Read = { ...Foreseen, description: '`count`: how many events it would read. It changes nothing.' };

/** Nothing at all will do, too. */
const How = Type.Union([
  Strict({
    since: Type.Optional({ ...Time, description: 'Only rows that newer events concern.' }),
    sample: Type.Optional(
      Type.Number({
        exclusiveMinimum: 0,
        maximum: 1,
        description: 'Only about this part of the rows; the same ones each time.',
      }),
    ),
    reason: Type.Optional(Reason),
  }),
  Type.Null(),
]);

export type VerificationRoutesDeps = {
  readonly contextOf: ContextOf;
  readonly verify: (
    context: CommandContext,
    wanted: VerificationPayload,
  ) => Promise<CommandResult<JobAccepted>>;
  readonly foreseeVerification: (
    projection: string,
  ) => Promise<
    { readonly ok: true; readonly events: number } | { readonly ok: false; readonly refusal: Refusal }
  >;
};

/** Whether a read model is what follows from the ledger. For operators. */
export function verificationRoutes(deps: VerificationRoutesDeps): Routes {
  return (app) => {
    app.post(
      '/v1/ops/projections/:name/verify',
      {
        schema: {
          summary: 'Fold the ledger anew, and compare with a read model; it changes nothing',
          tags: ['Operation'],
          operationId: 'verifyProjection',
          params: Type.Object({ name: Type.String({ maxLength: 100, description: 'Of the read model.' }) }),
          querystring: DryRun,
          body: How,
          response: { 200: Read, 202: Accepted },
        },
        config: { auth: 'account', command: true, forbids: true },
      },
      async (request, reply) => {
        operatorOf(request);
        const { name } = request.params;
        const { reason, ...how } = request.body ?? {};
        if (request.query.dryRun) {
          const foreseen = await deps.foreseeVerification(name);
          if (!foreseen.ok) throw new Problem(foreseen.refusal.code, foreseen.refusal.detail);
          return reply.code(200).send({ count: foreseen.events, sample: [] });
        }
        const context = reasonedContext(deps.contextOf, request, reason);
        const done = doneOf(await deps.verify(context, { projection: name, ...how }));
        commandAnswer(reply, done, { status: 202, location: `/v1/jobs/${done.body.id}` });
        return reply.code(202).send(done.body);
      },
    );
  };
}
