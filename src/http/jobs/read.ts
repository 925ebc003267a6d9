import { type Static, Type } from 'typebox';
import type { Hmac } from '../../access/signing.ts';
import { type JobId, parseStreamId } from '../../domain/ids.ts';
import type { AsOf } from '../../projections/jobs/as-of.ts';
import type { JobListing, JobView } from '../../projections/jobs/queries.ts';
import type { Wanted } from '../../projections/reading.ts';
import { callerOf } from '../authentication.ts';
import { notModified, revalidatedList } from '../caching.ts';
import { type FindOne, wantedOf } from '../consistency.ts';
import { nextLink, readCursor, writeCursor } from '../cursors.ts';
import { invalid, Problem } from '../problems.ts';
import { Cursor, IdParams, Limit, NotModified, Status, Strict, Time } from '../schemas.ts';
import type { Opened, Routes } from '../types.ts';
import { Job, ownerOf, shown } from './schemas.ts';

const LookBack = Strict({
  at: Type.Optional({ ...Time, description: 'The job as it was then.' }),
  version: Type.Optional(
    Type.Integer({ minimum: 1, maximum: 2 ** 31 - 1, description: 'The job as this version of it was.' }),
  ),
});
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

export type JobReadDeps = {
  readonly hmac: Hmac;
  readonly opened: Opened;
  readonly findJob: FindOne<JobView>;
  /** Waits until the read model includes what is wanted. */
  readonly waitForWrites: (wanted: Wanted) => Promise<void>;
  /** The job as it was, and whose it is. */
  readonly jobAsOf: (
    id: JobId,
    asOf: AsOf,
  ) => Promise<{ readonly job: JobView; readonly owner?: string } | undefined>;
  readonly listJobs: (listing: JobListing, wanted: Wanted) => Promise<JobView[]>;
};

/** What the read model says of jobs. */
export function jobReadRoutes(deps: JobReadDeps): Routes {
  return (app) => {
    app.get(
      '/v1/jobs/:id',
      {
        schema: {
          summary: 'Read a job',
          tags: ['Jobs'],
          operationId: 'readJob',
          params: IdParams,
          querystring: LookBack,
          response: { 200: Job, 304: NotModified },
        },
        config: { auth: 'account', reads: 'jobs' },
      },
      async (request, reply) => {
        const id = parseStreamId(request.params.id, 'job');
        const owner = ownerOf(callerOf(request));
        const asOf = asOfQuery(request.query);
        const wanted = wantedOf(request);
        const job =
          id && (await (asOf ? lookBack(deps, id, asOf, owner, wanted) : deps.findJob(id, owner, wanted)));
        if (!job) throw new Problem('not_found', 'There is no such job of yours.');
        // Whether it is parked depends on another job, so the version alone doesn't tell what was shown.
        const shownAs = job.parked ? `${job.version}-parked` : job.version;
        if (notModified(request, reply, shownAs)) return reply.code(304).send(undefined);
        return shown(await deps.opened(job.owner, job));
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
          response: { 200: Jobs, 304: NotModified },
        },
        config: { auth: 'account', reads: 'jobs' },
      },
      async (request, reply) => {
        const { cursor, limit = 50, ...filter } = request.query;
        const listing = { ...filter, owner: ownerOf(callerOf(request)) };
        const before = readCursor(deps.hmac, 'jobs', cursor);
        // One more than asked for says whether there is a next page.
        const found = await deps.listJobs({ ...listing, before, limit: limit + 1 }, wantedOf(request));
        const page = found.slice(0, limit);
        const last = page.at(-1);
        const items = (await Promise.all(page.map((job) => deps.opened(job.owner, job)))).map(shown);
        revalidatedList(reply);
        if (found.length <= limit || !last) return { items };
        const nextCursor = writeCursor(deps.hmac, 'jobs', last);
        reply.header('link', nextLink(request.url, nextCursor));
        return { items, nextCursor };
      },
    );
  };
}

function asOfQuery({ at, version }: Static<typeof LookBack>): AsOf | undefined {
  if (at !== undefined && version !== undefined) throw invalid('version', 'goes without `at`');
  if (version !== undefined) return { version };
  if (at === undefined) return undefined;
  const time = new Date(at);
  if (Number.isNaN(time.getTime())) throw invalid('at', 'is no time');
  return { at: time };
}

async function lookBack(
  { jobAsOf, waitForWrites }: JobReadDeps,
  id: JobId,
  asOf: AsOf,
  owner: string | undefined,
  wanted: Wanted,
): Promise<JobView | undefined> {
  await waitForWrites(wanted);
  const found = await jobAsOf(id, asOf);
  return owner === undefined || found?.owner === owner ? found?.job : undefined;
}
