import { Type } from 'typebox';
import type { Hmac } from '../access/signing.ts';
import type { Caller } from '../access/tokens.ts';
import { readCron, shortestPause } from '../commands/cron.ts';
import type { createSchedule, deleteSchedule } from '../commands/schedules.ts';
import { parseStreamId } from '../domain/ids.ts';
import type { JobTypes } from '../domain/job-types.ts';
import { MissedRuns } from '../domain/schedules.ts';
import type { Before } from '../projections/listing.ts';
import type { Wanted } from '../projections/reading.ts';
import type { ScheduleView } from '../projections/schedules.ts';
import { callerOf } from './authentication.ts';
import { notModified, revalidatedList } from './caching.ts';
import { type ContextOf, commandAnswer, doneOf } from './commands.ts';
import { type FindOne, wantedOf } from './consistency.ts';
import { nextLink, readCursor, writeCursor } from './cursors.ts';
import { JobRequest, jobWanted } from './job-request.ts';
import { Problem } from './problems.ts';
import { Cursor, Id, IdParams, Limit, NotModified, Strict, Time, Version } from './schemas.ts';
import type { App, Bound, Opened, Routes } from './types.ts';

const Cron = Type.String({
  maxLength: 200,
  examples: ['0 9 * * MON-FRI'],
  description: 'Five fields, six with seconds in front, or a nickname such as `@daily`.',
});
const Timezone = Type.String({ maxLength: 64, examples: ['Europe/Berlin'] });
const { runAt: _, ...jobFields } = JobRequest.properties;
const ScheduleRequest = Strict({
  cron: Cron,
  timezone: Type.Optional({ ...Timezone, default: 'UTC' }),
  job: Strict(jobFields),
  missed: Type.Optional({
    ...MissedRuns,
    default: 'skip',
    description:
      'What becomes of runs at times at which no worker was there: none of them, one for all, or each of them.',
  }),
});
const Created = Type.Object(
  { id: Id, version: Version, nextRunAt: Type.Optional(Time) },
  { description: 'It is in force.' },
);
const Schedule = Type.Object(
  {
    id: Id,
    cron: Cron,
    timezone: Timezone,
    missed: MissedRuns,
    job: Type.Object(jobFields),
    nextRunAt: Type.Optional(Time),
    lastRunAt: Type.Optional({ ...Time, description: 'The time for which the last run was meant.' }),
    lastJobId: Type.Optional(Id),
    createdAt: Time,
    version: Version,
  },
  { description: 'A schedule.' },
);
const Schedules = Type.Object(
  { items: Type.Array(Schedule), nextCursor: Type.Optional(Cursor) },
  { description: 'A page of schedules, the newest first.' },
);

export type ScheduleDeps = {
  readonly hmac: Hmac;
  readonly opened: Opened;
  readonly contextOf: ContextOf;
  readonly jobTypes: JobTypes;
  /** Ticks may not be closer to one another. */
  readonly shortestPauseSeconds: number;
  readonly createSchedule: Bound<typeof createSchedule>;
  readonly deleteSchedule: Bound<typeof deleteSchedule>;
  readonly findSchedule: FindOne<ScheduleView>;
  readonly listSchedules: (
    listing: {
      readonly owner?: string | undefined;
      readonly before?: Before | undefined;
      readonly limit: number;
    },
    wanted: Wanted,
  ) => Promise<ScheduleView[]>;
};

/** Jobs that are run again and again. */
export function scheduleRoutes(deps: ScheduleDeps): Routes {
  return (app) => {
    create(app, deps);
    read(app, deps);
    remove(app, deps);
  };
}

const schemaOf = (operationId: string, summary: string) => ({ operationId, summary, tags: ['Jobs'] });

function create(app: App, deps: ScheduleDeps): void {
  app.post(
    '/v1/schedules',
    {
      schema: {
        ...schemaOf('createSchedule', 'Run a job again and again'),
        body: ScheduleRequest,
        response: { 201: Created },
      },
      config: { auth: 'account', command: true, forbids: true },
    },
    async (request, reply) => {
      const { cron, timezone = 'UTC', missed = 'skip' } = request.body;
      const now = new Date();
      checkCron(cron, timezone, now, deps.shortestPauseSeconds);
      const job = jobWanted(deps.jobTypes, callerOf(request), request.body.job, now, '/job');
      const done = doneOf(
        await deps.createSchedule(deps.contextOf(request), { cron, timezone, missed, job }),
      );
      commandAnswer(reply, done, { status: 201, location: `/v1/schedules/${done.body.id}` });
      return reply.code(201).send(done.body);
    },
  );
}

/** Throws a `Problem` where it can't be read, never fires, or fires too often. */
function checkCron(cron: string, timezone: string, now: Date, shortestPauseSeconds: number): void {
  const refuse = (part: string, detail: string) =>
    new Problem('invalid_request', 'The schedule is not as it should be; see errors.', {
      errors: [{ pointer: `/${part}`, detail }],
    });
  const read = readCron(cron, timezone);
  if (!read.ok) throw refuse(read.part, read.detail);
  if (read.ticks.next(now.getTime()) === undefined) throw refuse('cron', 'never fires');
  if (shortestPause(read.ticks, now.getTime()) < shortestPauseSeconds * 1000) {
    throw refuse('cron', `fires more often than every ${shortestPauseSeconds} seconds`);
  }
}

function read(app: App, deps: ScheduleDeps): void {
  app.get(
    '/v1/schedules/:id',
    {
      schema: {
        ...schemaOf('readSchedule', 'Read a schedule'),
        params: IdParams,
        response: { 200: Schedule, 304: NotModified },
      },
      config: { auth: 'account', reads: 'schedules' },
    },
    async (request, reply) => {
      const id = parseStreamId(request.params.id, 'sched');
      const owner = ownerOf(callerOf(request));
      const found = id && (await deps.findSchedule(id, owner, wantedOf(request)));
      if (!found) throw notThere();
      if (notModified(request, reply, found.version)) return reply.code(304).send(undefined);
      return shown(await deps.opened(found.owner, found));
    },
  );

  app.get(
    '/v1/schedules',
    {
      schema: {
        ...schemaOf('listSchedules', 'List your schedules'),
        querystring: Strict({ limit: Type.Optional(Limit), cursor: Type.Optional(Cursor) }),
        response: { 200: Schedules, 304: NotModified },
      },
      config: { auth: 'account', reads: 'schedules' },
    },
    async (request, reply) => {
      const { limit = 50, cursor } = request.query;
      const before = readCursor(deps.hmac, 'schedules', cursor);
      // One more than asked for says whether there is a next page.
      const found = await deps.listSchedules(
        { owner: ownerOf(callerOf(request)), before, limit: limit + 1 },
        wantedOf(request),
      );
      const page = found.slice(0, limit);
      const last = page.at(-1);
      const items = (await Promise.all(page.map((each) => deps.opened(each.owner, each)))).map(shown);
      revalidatedList(reply);
      if (found.length <= limit || !last) return { items };
      const nextCursor = writeCursor(deps.hmac, 'schedules', last);
      reply.header('link', nextLink(request.url, nextCursor));
      return { items, nextCursor };
    },
  );
}

function remove(app: App, deps: ScheduleDeps): void {
  app.delete(
    '/v1/schedules/:id',
    {
      schema: {
        ...schemaOf('deleteSchedule', 'End a schedule; a run that it has enqueued goes on'),
        params: IdParams,
        response: { 204: Type.Null({ description: 'It enqueues nothing more.' }) },
      },
      config: { auth: 'account', command: true },
    },
    async (request, reply) => {
      const scheduleId = parseStreamId(request.params.id, 'sched');
      if (!scheduleId) throw notThere();
      const owner = ownerOf(callerOf(request));
      const done = doneOf(await deps.deleteSchedule(deps.contextOf(request), { scheduleId, owner }));
      reply.header('position', done.position).header('durability', done.durability);
      return reply.code(204).send(null);
    },
  );
}

function shown({ owner: _, ...schedule }: ScheduleView) {
  return schedule;
}

const notThere = () => new Problem('not_found', 'There is no such schedule of yours.');

/** Operators see everybody's. */
function ownerOf({ accountId, role }: Caller): string | undefined {
  return role === 'operator' ? undefined : accountId;
}
