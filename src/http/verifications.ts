import { Type } from 'typebox';
import type { CommandContext, CommandResult } from '../commands/handle.ts';
import type { JobAccepted } from '../commands/jobs/requests.ts';
import type { VerificationPayload } from '../domain/verifications.ts';
import { type ContextOf, commandAnswer, doneOf } from './commands.ts';
import { operatorOf, Reason, reasonedContext } from './operators.ts';
import { Id, Status, Strict, Time, Version } from './schemas.ts';
import type { Routes } from './types.ts';

const Accepted = Type.Object(
  { id: Id, version: Version, status: Status },
  { description: 'A job verifies it; its result says {rows, events, wrong, findings}.' },
);

export type VerificationRoutesDeps = {
  readonly contextOf: ContextOf;
  readonly verify: (
    context: CommandContext,
    wanted: VerificationPayload,
  ) => Promise<CommandResult<JobAccepted>>;
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
          body: Strict({
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
          response: { 202: Accepted },
        },
        config: { auth: 'account', command: true, forbids: true },
      },
      async (request, reply) => {
        operatorOf(request);
        const { reason, ...how } = request.body;
        const context = reasonedContext(deps.contextOf, request, reason);
        const done = doneOf(await deps.verify(context, { projection: request.params.name, ...how }));
        commandAnswer(reply, done, { status: 202, location: `/v1/jobs/${done.body.id}` });
        return reply.code(202).send(done.body);
      },
    );
  };
}
