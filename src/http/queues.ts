import { Type } from 'typebox';
import type { CommandContext, CommandResult } from '../commands/handle.ts';
import type { QueueChanged } from '../commands/queues.ts';
import { JobQueue } from '../domain/jobs/events.ts';
import type { Wanted } from '../projections/reading.ts';
import { revalidatedList } from './caching.ts';
import { type ContextOf, commandAnswer, doneOf } from './commands.ts';
import { wantedOf } from './consistency.ts';
import { DryRun, Foreseen, operatorOf, Reason, reasonedContext } from './operators.ts';
import { Problem } from './problems.ts';
import { NotModified, Strict, Time, Version } from './schemas.ts';
import type { App, Routes } from './types.ts';

const Count = (description: string) => Type.Integer({ minimum: 0, description });
const Queue = Type.Object(
  {
    id: JobQueue,
    paused: Type.Boolean({ description: 'Nothing more of it is begun.' }),
    pausedSince: Type.Optional(Time),
    waiting: Count('Jobs whose time has come, and that no worker has.'),
    parked: Count('Of these, the ones behind another job of their ordering key.'),
    running: Count('Jobs that workers have.'),
    scheduled: Count('Jobs that wait for a time, those that are to be tried again among them.'),
    oldestWaitingAt: Type.Optional({ ...Time, description: 'When the oldest that waits became due.' }),
    version: Version,
  },
  { description: 'A queue.' },
);
const Queues = Type.Object({ items: Type.Array(Queue) }, { description: 'All queues.' });
const Changed = Type.Object(
  { id: JobQueue, version: Version, paused: Type.Boolean() },
  { description: 'It is so from now on, and within a second in every worker.' },
);
const Params = Type.Object({ name: Type.String({ maxLength: 64 }) });

/** A queue as an operator sees it. Times are RFC 3339. */
export type QueueView = {
  readonly id: JobQueue;
  readonly paused: boolean;
  readonly pausedSince?: string;
  readonly waiting: number;
  readonly parked: number;
  readonly running: number;
  readonly scheduled: number;
  readonly oldestWaitingAt?: string;
  readonly version: number;
};

type Change = (context: CommandContext, queue: JobQueue) => Promise<CommandResult<QueueChanged>>;

export type QueueRoutesDeps = {
  readonly contextOf: ContextOf;
  /** Of these names, in their order. Throws `StoreUnavailableError`. */
  readonly readQueues: (names: readonly JobQueue[], wanted?: Wanted) => Promise<readonly QueueView[]>;
  readonly pauseQueue: Change;
  readonly resumeQueue: Change;
};

/** How full the queues are, and pausing them. For operators. */
export function queueRoutes(deps: QueueRoutesDeps): Routes {
  return (app) => {
    app.get(
      '/v1/ops/queues',
      {
        schema: {
          summary: 'List the queues, and how full they are',
          tags: ['Operation'],
          operationId: 'listQueues',
          response: { 200: Queues, 304: NotModified },
        },
        config: { auth: 'account', forbids: true, reads: 'jobs' },
      },
      async (request, reply) => {
        operatorOf(request);
        revalidatedList(reply);
        return { items: [...(await deps.readQueues(JobQueue.enum, wantedOf(request)))] };
      },
    );
    app.get(
      '/v1/ops/queues/:name',
      {
        schema: {
          summary: 'Read how full a queue is',
          tags: ['Operation'],
          operationId: 'readQueue',
          params: Params,
          response: { 200: Queue, 304: NotModified },
        },
        config: { auth: 'account', forbids: true, reads: 'jobs' },
      },
      async (request, reply) => {
        operatorOf(request);
        const name = queueNamed(request.params.name);
        revalidatedList(reply);
        return oneOf(deps, name, wantedOf(request));
      },
    );
    change(app, deps, 'pause', deps.pauseQueue);
    change(app, deps, 'resume', deps.resumeQueue);
  };
}

const SUMMARIES = {
  pause: 'Pause a queue: nothing more of it is begun, in any process; what runs ends',
  resume: 'Resume a queue: what waits is begun at once',
};

function change(app: App, deps: QueueRoutesDeps, name: 'pause' | 'resume', command: Change): void {
  app.post(
    `/v1/ops/queues/:name/${name}`,
    {
      schema: {
        summary: SUMMARIES[name],
        tags: ['Operation'],
        operationId: `${name}Queue`,
        params: Params,
        querystring: DryRun,
        body: Strict({ reason: Reason }),
        response: { 200: Foreseen, 202: Changed },
      },
      config: { auth: 'account', command: true, forbids: true },
    },
    async (request, reply) => {
      operatorOf(request);
      const queue = queueNamed(request.params.name);
      if (request.query.dryRun) {
        const { paused } = await oneOf(deps, queue);
        const sample =
          paused === (name === 'pause') ? [] : [{ id: queue, status: paused ? 'paused' : 'open' }];
        return reply.code(200).send({ count: sample.length, sample });
      }
      const context = reasonedContext(deps.contextOf, request, request.body.reason);
      const done = doneOf(await command(context, queue));
      commandAnswer(reply, done, { status: 202, location: `/v1/ops/queues/${queue}` });
      return reply.code(202).send(done.body);
    },
  );
}

function queueNamed(name: string): JobQueue {
  const queue = JobQueue.enum.find((known) => known === name);
  if (!queue) throw new Problem('not_found', 'There is no such queue.');
  return queue;
}

async function oneOf({ readQueues }: QueueRoutesDeps, name: JobQueue, wanted?: Wanted): Promise<QueueView> {
  const [queue] = await readQueues([name], wanted);
  if (!queue) throw new Error(`nothing was read of the queue ${name}`);
  return queue;
}
