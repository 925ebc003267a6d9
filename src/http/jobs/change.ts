import { Type } from 'typebox';
import type { CommandContext, CommandResult } from '../../commands/handle.ts';
import type {
  enqueueJob,
  foreseeChange,
  JobAccepted,
  JobChange,
  JobOf,
} from '../../commands/jobs/requests.ts';
import { parseStreamId } from '../../domain/ids.ts';
import type { JobTypes } from '../../domain/job-types.ts';
import { callerOf } from '../authentication.ts';
import { type ContextOf, commandAnswer, doneOf } from '../commands.ts';
import { JobRequest, jobWanted } from '../job-request.ts';
import { DryRun, Foreseen, operatorOf, Reason, reasonedContext } from '../operators.ts';
import { Problem } from '../problems.ts';
import { IdParams, Strict } from '../schemas.ts';
import type { App, Bound, Routes } from '../types.ts';
import { Accepted, ownerOf } from './schemas.ts';

type Change = (context: CommandContext, input: JobOf) => Promise<CommandResult<JobAccepted>>;

export type JobChangeDeps = {
  readonly contextOf: ContextOf;
  readonly jobTypes: JobTypes;
  readonly enqueueJob: Bound<typeof enqueueJob>;
  readonly cancelJob: Change;
  readonly retryJob: Change;
  readonly discardJob: Change;
  readonly foreseeChange: Bound<typeof foreseeChange>;
};

/** Enqueueing jobs, cancelling them, and running them again. */
export function jobChangeRoutes(deps: JobChangeDeps): Routes {
  return (app) => {
    app.post(
      '/v1/jobs',
      {
        schema: {
          summary: 'Enqueue a job',
          tags: ['Jobs'],
          operationId: 'enqueueJob',
          body: JobRequest,
          response: { 202: Accepted },
        },
        config: { auth: 'account', command: true, forbids: true },
      },
      async (request, reply) => {
        const wanted = jobWanted(deps.jobTypes, callerOf(request), request.body, new Date());
        const done = doneOf(await deps.enqueueJob(deps.contextOf(request), wanted));
        commandAnswer(reply, done, { status: 202, location: `/v1/jobs/${done.body.id}` });
        return reply.code(202).send(done.body);
      },
    );
    change(app, deps, 'cancel', deps.cancelJob);
    change(app, deps, 'retry', deps.retryJob);
    change(app, deps, 'discard', deps.discardJob);
  };
}

const SUMMARIES: Record<JobChange, string> = {
  cancel: 'Cancel a job: what waits ends at once, what runs is told to end',
  retry: 'Enqueue a job again that failed or was cancelled',
  discard: 'Give a dead letter up, as an operator: what waits behind it goes on',
};

/**
 * Nothing at all will do, too. What somebody says of a job of their own has no reader, and would stay, unsealed, when they
 * are erased.
 */
const Why = Type.Union([
  Strict({
    reason: Type.Optional({ ...Reason, description: 'Why, of operators only; kept with the events.' }),
  }),
  Type.Null(),
]);

function change(app: App, deps: JobChangeDeps, name: JobChange, command: Change): void {
  app.post(
    `/v1/jobs/:id/${name}`,
    {
      schema: {
        summary: SUMMARIES[name],
        tags: ['Jobs'],
        operationId: `${name}Job`,
        params: IdParams,
        querystring: DryRun,
        body: Why,
        response: { 200: Foreseen, 202: Accepted },
      },
      config: { auth: 'account', command: true, forbids: true },
    },
    async (request, reply) => {
      const caller = name === 'discard' ? operatorOf(request) : callerOf(request);
      const jobId = parseStreamId(request.params.id, 'job');
      if (!jobId) throw new Problem('not_found', 'There is no such job of yours.');
      const input = { jobId, owner: ownerOf(caller) };
      const reason = request.body?.reason;
      if (reason !== undefined && caller.role !== 'operator') {
        throw new Problem('forbidden', 'A reason is for operators to give: it is kept as it was written.');
      }
      if (request.query.dryRun) {
        const foreseen = await deps.foreseeChange(name, input);
        if (!foreseen.ok) throw new Problem(foreseen.refusal.code, foreseen.refusal.detail);
        const sample = foreseen.changes ? [{ id: jobId, status: foreseen.status }] : [];
        return reply.code(200).send({ count: sample.length, sample });
      }
      const context = reasonedContext(deps.contextOf, request, reason);
      const done = doneOf(await command(context, input));
      commandAnswer(reply, done, { status: 202, location: `/v1/jobs/${done.body.id}` });
      return reply.code(202).send(done.body);
    },
  );
}
