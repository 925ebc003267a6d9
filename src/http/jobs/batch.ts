import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { Compile } from 'typebox/compile';
import type { Done } from '../../commands/handle.ts';
import type { enqueueJob, JobAccepted } from '../../commands/jobs/requests.ts';
import type { JobTypes } from '../../domain/job-types.ts';
import { formatPosition, type Position, parsePosition } from '../../domain/position.ts';
import { traceparentOf } from '../../telemetry/http.ts';
import { callerOf } from '../authentication.ts';
import { type ContextOf, doneOf } from '../commands.ts';
import { detailsOf, problemOf } from '../failures.ts';
import { JobRequest, jobWanted } from '../job-request.ts';
import { problemTypes } from '../problem-types.ts';
import { instanceOf, Problem, problemBody } from '../problems.ts';
import { Id, ProblemSchema, Strict } from '../schemas.ts';
import type { Bound, Routes } from '../types.ts';

const BODY_LIMIT_BYTES = 8 * 1_048_576;
const MAX_JOBS = 1_000;
/** Of one job. */
const MAX_ERRORS = 20;

const Batch = Strict({
  jobs: Type.Array(Type.Unknown(), {
    minItems: 1,
    maxItems: MAX_JOBS,
    description: 'Each as the body of `POST /v1/jobs`; each is looked at by itself.',
  }),
});
const Result = Type.Object({
  status: Type.Integer({ description: 'What `POST /v1/jobs` would have answered.' }),
  id: Type.Optional(Id),
  error: Type.Optional(ProblemSchema),
});
const Results = Type.Object(
  { items: Type.Array(Result) },
  { description: 'What became of each job, in their order: its id, or the problem with it.' },
);

export type JobBatchDeps = {
  readonly contextOf: ContextOf;
  readonly jobTypes: JobTypes;
  /** Commits of one tick travel together, so each job has a commit, and an idempotency key, of its own. */
  readonly enqueueInBatch: Bound<typeof enqueueJob>;
};

const requests = Compile(JobRequest);

/** Many jobs at once. One that is refused keeps back none of the others. */
export function jobBatchRoutes(deps: JobBatchDeps): Routes {
  return (app) => {
    app.post(
      '/v1/jobs/batch',
      {
        bodyLimit: BODY_LIMIT_BYTES,
        schema: {
          summary: 'Enqueue up to 1,000 jobs; the body may have 8 MiB',
          tags: ['Jobs'],
          operationId: 'enqueueJobs',
          body: Batch,
          response: { 207: Results },
        },
        config: { auth: 'account', command: 'batch' },
      },
      async (request, reply) => {
        // A header that is malformed is so for all of them.
        deps.contextOf(request, { index: 0, body: null });
        const settled = await Promise.allSettled(
          request.body.jobs.map((job, index) => enqueueOne(deps, request, job, index)),
        );
        const done = settled.flatMap((item) => (item.status === 'fulfilled' ? item.value : []));
        refuseWhole(settled);
        answer(reply, done, positionsOf(settled), done.length === settled.length);
        return reply.code(207).send({ items: settled.map((item) => resultOf(request, item)) });
      },
    );
  };
}

async function enqueueOne(
  { contextOf, jobTypes, enqueueInBatch }: JobBatchDeps,
  request: FastifyRequest,
  job: unknown,
  index: number,
): Promise<Done<JobAccepted>> {
  const at = `/jobs/${index}`;
  if (!requests.Check(job)) {
    const errors = requests.Errors(job).flatMap((error) => detailsOf(error, 'body', at));
    throw new Problem('invalid_request', 'The job is not as it should be; see errors.', {
      errors: errors.slice(0, MAX_ERRORS),
    });
  }
  const wanted = jobWanted(jobTypes, callerOf(request), job, new Date(), at);
  return doneOf(await enqueueInBatch(contextOf(request, { index, body: job }), wanted));
}

/** Where nothing was done because of one outage, that is the answer: 503, to come again. */
function refuseWhole(settled: readonly PromiseSettledResult<unknown>[]): void {
  const problems = settled.map((item) => (item.status === 'rejected' ? problemOf(item.reason) : undefined));
  const [first] = problems;
  if (!first || problemTypes[first.code].status !== 503) return;
  if (problems.every((problem) => problem?.code === first.code)) throw first;
}

function resultOf(request: FastifyRequest, item: PromiseSettledResult<Done<JobAccepted>>) {
  if (item.status === 'fulfilled') return { status: 202, id: item.value.body.id };
  const known = problemOf(item.reason);
  if (!known) request.log.error({ err: item.reason }, 'a job of a batch failed');
  const shown = known ?? new Problem('internal_error', 'This should not have happened.');
  const traceId = traceparentOf(request)?.split('-')[1];
  const { errors, ...problem } = problemBody(shown, instanceOf(request), traceId);
  const error = { ...problem, ...(errors ? { errors: [...errors] } : {}) };
  return { status: error.status, error };
}

/** Of what stands: a job that did not become as durable as was asked is enqueued all the same. */
function positionsOf(settled: readonly PromiseSettledResult<Done<JobAccepted>>[]): readonly Position[] {
  return settled.flatMap((item) => {
    const text = item.status === 'fulfilled' ? item.value.position : problemOf(item.reason)?.headers.position;
    const position = text === undefined ? undefined : parsePosition(text);
    return position ? [position] : [];
  });
}

/** `Position` names the last event in each partition: as a whole it is what `Consistent-With` takes. */
function answer(
  reply: FastifyReply,
  done: readonly Done<JobAccepted>[],
  positions: readonly Position[],
  whole: boolean,
): void {
  reply.header('cache-control', 'no-store');
  const last = new Map<number, Position>();
  for (const position of positions) {
    const known = last.get(position.partition);
    if (!known || position.epoch > known.epoch || position.seq > known.seq) {
      last.set(position.partition, position);
    }
  }
  if (last.size > 0) reply.header('position', [...last.values()].map(formatPosition).join(', '));
  const [first] = done;
  if (!first) return;
  // Where some did not come so far, that is said of each of them.
  reply.header('durability', first.durability);
  if (whole && done.every(({ replayed }) => replayed)) reply.header('idempotency-replayed', 'true');
}
