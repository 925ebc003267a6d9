import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import type { SessionCheck } from '../../access/sessions.ts';
import type { Hmac } from '../../access/signing.ts';
import type { RawEvent } from '../../domain/event.ts';
import { type JobId, parseStreamId } from '../../domain/ids.ts';
import type { Wanted } from '../../projections/reading.ts';
import { callerOf } from '../authentication.ts';
import { revalidatedList } from '../caching.ts';
import { untilClosed, wantedOf } from '../consistency.ts';
import { nextLink, readVersionCursor, writeVersionCursor } from '../cursors.ts';
import type { Streams } from '../draining.ts';
import { Problem } from '../problems.ts';
import { Cursor, IdParams, Limit, NotModified, Strict } from '../schemas.ts';
import { LastEventIdQuery, lastEventId, STREAM_HEADERS, TicketQuery, wantsStream } from '../streams.ts';
import type { Opened, Routes } from '../types.ts';
import { Event, metaOf, shownEvent } from './event.ts';
import { type FollowJob, isFinal, liveEvents } from './live.ts';
import { ownerOf } from './schemas.ts';

const Events = Type.Object(
  { items: Type.Array(Event), nextCursor: Type.Optional(Cursor) },
  { description: 'A page of what happened to the job, the oldest first.' },
);
const Query = Strict({
  limit: Type.Optional(Limit),
  cursor: Type.Optional(Cursor),
  ticket: TicketQuery,
  lastEventId: LastEventIdQuery,
});

/** Events of a stream with a version above `after`, at most `limit`. */
export type ReadHistory = (
  id: JobId,
  range: { readonly after: number; readonly limit: number },
) => Promise<readonly RawEvent[]>;

export type JobHistoryDeps = {
  readonly hmac: Hmac;
  readonly opened: Opened;
  readonly readHistory: ReadHistory;
  /** Waits until the read model includes what is wanted, though the history needs no read model. */
  readonly waitForWrites: (wanted: Wanted) => Promise<void>;
  readonly followJob: FollowJob;
  readonly streams: Streams;
  readonly checkSession: SessionCheck;
};

/** All that ever happened to a job: nothing of it is overwritten by what comes later. As a list, or live. */
export function jobHistoryRoutes(deps: JobHistoryDeps): Routes {
  return (app) => {
    app.get(
      '/v1/jobs/:id/events',
      {
        schema: {
          summary: 'Read the history of a job, or follow it live',
          description:
            'A list, or, for who accepts `text/event-stream`, server-sent events: the whole history and then each new event, with its version as id, its type as event and the items of the list as data. It ends after the last event of a job that has ended. `resync`: the id to resume from was unknown, so it begins with the first event.',
          tags: ['Jobs'],
          operationId: 'readJobHistory',
          params: IdParams,
          querystring: Query,
          response: {
            200: {
              description: 'What happened to the job, the oldest first.',
              content: {
                'application/json': { schema: Events },
                'text/event-stream': { schema: Type.String() },
              },
            },
            204: Type.Null({ description: 'You have seen its final event.' }),
            304: NotModified,
          },
        },
        config: { auth: 'stream', reads: 'jobs' },
      },
      async (request, reply) => {
        const id: JobId | undefined = parseStreamId(request.params.id, 'job');
        const owner = ownerOf(callerOf(request));
        await deps.waitForWrites(wantedOf(request));
        // A job is whose its first event is.
        const [first] = id ? await deps.readHistory(id, { after: 0, limit: 1 }) : [];
        if (!id || !first || (owner !== undefined && metaOf(first).owner !== owner)) {
          throw new Problem('not_found', 'There is no such job of yours.');
        }
        const vary = reply.getHeader('vary');
        reply.header('vary', vary === undefined ? 'accept' : `${vary}, accept`);
        const whose = metaOf(first).owner;
        if (wantsStream(request.headers.accept)) return live(deps, request, reply, id, whose);
        const { cursor, limit = 50 } = request.query;
        const list = `events of ${id}`;
        const after = readVersionCursor(deps.hmac, list, cursor);
        // One more than asked for says whether there is a next page.
        const found = await deps.readHistory(id, { after, limit: limit + 1 });
        const page = found.slice(0, limit);
        const last = page.at(-1);
        const items = await deps.opened(whose, page.map(shownEvent));
        revalidatedList(reply);
        if (found.length <= limit || !last) return { items };
        const nextCursor = writeVersionCursor(deps.hmac, list, last.version);
        reply.header('link', nextLink(request.url, nextCursor));
        return { items, nextCursor };
      },
    );
  };
}

async function live(
  deps: JobHistoryDeps,
  request: FastifyRequest<{ Querystring: { lastEventId?: string } }>,
  reply: FastifyReply,
  id: JobId,
  whose: string | undefined,
) {
  const caller = callerOf(request);
  const known = lastEventId(request.headers['last-event-id'], request.query.lastEventId);
  if (typeof known === 'number' && known > 0) {
    const [last, next] = await deps.readHistory(id, { after: known - 1, limit: 2 });
    if (last && !next && isFinal(last)) return reply.code(204).send(null);
  }
  if (request.method === 'HEAD') return reply.headers(STREAM_HEADERS).send('');
  const signal = deps.streams.open(untilClosed(reply), caller.accountId);
  const events = liveEvents({
    known,
    opened: (event) => deps.opened(whose, event),
    follow: (after, idleMs) =>
      deps.followJob(id, {
        after,
        idleMs,
        signal,
        // It is waited for nowhere: the client, if it is there, comes back and reads what it missed.
        onOverflow: () => {
          deps.streams.dropped();
          reply.raw.destroy();
        },
      }),
    allowed: async () => (await deps.checkSession(caller)) !== 'ended',
    onFailure: (err) => request.log.warn({ err, id }, 'live stream broke off'),
  });
  // As a stream of bytes, so that Fastify waits for slow readers and ends it when they leave.
  return reply.headers(STREAM_HEADERS).send(Readable.from(events, { objectMode: false }));
}
