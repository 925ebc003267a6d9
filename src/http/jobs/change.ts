import type { CommandContext, CommandResult } from '../../commands/handle.ts';
import type { enqueueJob, JobAccepted, JobOf } from '../../commands/jobs/requests.ts';
import { parseStreamId } from '../../domain/ids.ts';
import type { JobTypes } from '../../domain/job-types.ts';
import { callerOf } from '../authentication.ts';
import { type ContextOf, commandAnswer, doneOf } from '../commands.ts';
import { JobRequest, jobWanted } from '../job-request.ts';
import { Problem } from '../problems.ts';
import { IdParams } from '../schemas.ts';
import type { App, Bound, Routes } from '../types.ts';
import { Accepted, ownerOf } from './schemas.ts';

type Change = (context: CommandContext, input: JobOf) => Promise<CommandResult<JobAccepted>>;

export type JobChangeDeps = {
  readonly contextOf: ContextOf;
  readonly jobTypes: JobTypes;
  readonly enqueueJob: Bound<typeof enqueueJob>;
  readonly cancelJob: Change;
  readonly retryJob: Change;
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
  };
}

const SUMMARIES = {
  cancel: 'Cancel a job: what waits ends at once, what runs is told to end',
  retry: 'Enqueue a job again that failed or was cancelled',
};

function change(app: App, deps: JobChangeDeps, name: 'cancel' | 'retry', command: Change): void {
  app.post(
    `/v1/jobs/:id/${name}`,
    {
      schema: {
        summary: SUMMARIES[name],
        tags: ['Jobs'],
        operationId: `${name}Job`,
        params: IdParams,
        response: { 202: Accepted },
      },
      config: { auth: 'account', command: true },
    },
    async (request, reply) => {
      refuseBody(request.body);
      const jobId = parseStreamId(request.params.id, 'job');
      if (!jobId) throw new Problem('not_found', 'There is no such job of yours.');
      const owner = ownerOf(callerOf(request));
      const done = doneOf(await command(deps.contextOf(request), { jobId, owner }));
      commandAnswer(reply, done, { status: 202, location: `/v1/jobs/${done.body.id}` });
      return reply.code(202).send(done.body);
    },
  );
}

/** Nothing is said in it yet: what a client put there would be passed over in silence. */
function refuseBody(body: unknown): void {
  if (body === undefined || body === null) return;
  const fields = typeof body === 'object' ? Object.keys(body) : [''];
  if (fields.length === 0 && !Array.isArray(body)) return;
  throw new Problem('invalid_request', 'This takes no body.', {
    errors: [{ pointer: '', detail: 'must be empty' }],
  });
}
