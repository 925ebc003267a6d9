import { Type } from 'typebox';
import type { Hmac } from '../access/signing.ts';
import type { Caller } from '../access/tokens.ts';
import { parseStreamId } from '../domain/ids.ts';
import type { JobListing, JobView } from '../projections/jobs.ts';
import { callerOf } from './authentication.ts';
import { notModified, uncachedList } from './caching.ts';
import { nextLink, readCursor, writeCursor } from './cursors.ts';
import { failureOf } from './job-failure.ts';
import { Problem } from './problems.ts';
import {
  Cursor,
  Failure,
  Id,
  IdParams,
  Limit,
  NotModified,
  Status,
  Strict,
  Time,
  Version,
} from './schemas.ts';
import type { Routes } from './types.ts';

const Job = Type.Object(
  {
    id: Id,
    type: Type.String(),
    queue: Type.String(),
    status: Status,
    attempts: Type.Integer(),
    progress: Type.Number({ minimum: 0, maximum: 100, description: 'Percent.' }),
    result: Type.Optional(Type.Unknown()),
    error: Type.Optional(Failure),
    createdAt: Time,
    startedAt: Type.Optional(Time),
    finishedAt: Type.Optional(Time),
    traceId: Type.Optional(Type.String()),
    version: Version,
  },
  { description: 'A job.' },
);
const Jobs = Type.Object(
  { items: Type.Array(Job), nextCursor: Type.Optional(Cursor) },
  { description: 'A page of jobs, the newest first.' },
);
const Listing = Strict({
  status: Type.Optional(Status),
  type: Type.Optional(Type.String({ maxLength: 64 })),
  queue: Type.Optional(Type.String({ maxLength: 64 })),
  from: Type.Optional(Time),
  to: Type.Optional(Time),
  limit: Type.Optional(Limit),
  cursor: Type.Optional(Cursor),
});

export function jobRoutes(deps: {
  readonly hmac: Hmac;
  /** With `owner`, only if it is theirs. */
  readonly findJob: (id: string, owner?: string) => Promise<JobView | undefined>;
  readonly listJobs: (listing: JobListing) => Promise<JobView[]>;
}): Routes {
  return (app) => {
    app.get(
      '/v1/jobs/:id',
      {
        schema: {
          summary: 'Read a job',
          tags: ['Jobs'],
          operationId: 'readJob',
          params: IdParams,
          response: { 200: Job, 304: NotModified },
        },
        config: { auth: 'account', reads: 'jobs' },
      },
      async (request, reply) => {
        const id = parseStreamId(request.params.id, 'job');
        const job = id && (await deps.findJob(id, ownerOf(callerOf(request))));
        if (!job) throw new Problem('not_found', 'There is no such job of yours.');
        if (notModified(request, reply, job.version)) return reply.code(304).send(undefined);
        return shown(job);
      },
    );

    app.get(
      '/v1/jobs',
      {
        schema: {
          summary: 'List your jobs',
          tags: ['Jobs'],
          operationId: 'listJobs',
          querystring: Listing,
          response: { 200: Jobs },
        },
        config: { auth: 'account', reads: 'jobs' },
      },
      async (request, reply) => {
        const { cursor, limit = 50, ...filter } = request.query;
        const listing = { ...filter, owner: ownerOf(callerOf(request)) };
        const before = readCursor(deps.hmac, 'jobs', cursor);
        // One more than asked for says whether there is a next page.
        const found = await deps.listJobs({ ...listing, before, limit: limit + 1 });
        const items = found.slice(0, limit);
        const last = items.at(-1);
        uncachedList(reply);
        if (found.length <= limit || !last) return { items: items.map(shown) };
        const nextCursor = writeCursor(deps.hmac, 'jobs', last);
        reply.header('link', nextLink(request.url, nextCursor));
        return { items: items.map(shown), nextCursor };
      },
    );
  };
}

/** Operators see everybody's. */
function ownerOf({ accountId, role }: Caller): string | undefined {
  return role === 'operator' ? undefined : accountId;
}

/** Without the stack of a failure, which tells about our insides. */
function shown({ error, ...job }: JobView) {
  return { ...job, ...(error === undefined ? {} : { error: failureOf(error) }) };
}
