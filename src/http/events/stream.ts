import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Static, Type } from 'typebox';
import type { SessionCheck } from '../../access/sessions.ts';
import type { Hmac } from '../../access/signing.ts';
import type { RawEvent } from '../../domain/event.ts';
import { kindOf, parseStreamId, partitionOf, type StreamId } from '../../domain/ids.ts';
import { callerOf } from '../authentication.ts';
import { revalidatedList } from '../caching.ts';
import { untilClosed } from '../consistency.ts';
import { nextLink, readVersionCursor, writeVersionCursor } from '../cursors.ts';
import type { Streams } from '../draining.ts';
import { type FollowStream, liveStream } from '../live-events.ts';
import { operatorOf } from '../operators.ts';
import { Problem } from '../problems.ts';
import { Cursor, Id, IdParams, Limit, NotModified, Strict } from '../schemas.ts';
import {
  formatEvent,
  LastEventIdQuery,
  lastEventId,
  STREAM_HEADERS,
  TicketQuery,
  wantsStream,
} from '../streams.ts';
import type { App } from '../types.ts';
import { Event, shownEvent } from './event.ts';

const Events = Type.Object(
  {
    id: Id,
    kind: Type.String({ description: 'What the stream is about.', examples: ['job'] }),
    partition: Type.Integer({ minimum: 0 }),
    items: Type.Array(Event),
    nextCursor: Type.Optional(Cursor),
  },
  { description: 'A page of a stream’s events, the oldest first.' },
);
const Query = Strict({
  limit: Type.Optional(Limit),
  cursor: Type.Optional(Cursor),
  ticket: TicketQuery,
  lastEventId: LastEventIdQuery,
});

export type StreamDeps = {
  readonly hmac: Hmac;
  /** Events of a stream with a version above `after`, at most `limit`. */
  readonly readHistory: (
    id: StreamId,
    range: { readonly after: number; readonly limit: number },
  ) => Promise<readonly RawEvent[]>;
  readonly followStream: FollowStream;
  readonly streams: Streams;
  readonly checkSession: SessionCheck;
};

export function streamRoutes(app: App, deps: StreamDeps): void {
  app.get(
    '/v1/ops/streams/:id',
    {
      schema: {
        summary: 'Read all events of a stream, or follow it live',
        description:
          'A list, or, for who accepts `text/event-stream`, server-sent events: all events and then each new one, with its version as id. `resync`: the id to resume from was unknown, so it begins with the first event.',
        tags: ['Operation'],
        operationId: 'readStream',
        params: IdParams,
        querystring: Query,
        response: {
          200: {
            description: 'The stream’s events, the oldest first.',
            content: {
              'application/json': { schema: Events },
              'text/event-stream': { schema: Type.String() },
            },
          },
          304: NotModified,
        },
      },
      config: { auth: 'stream', forbids: true },
    },
    async (request, reply) => {
      operatorOf(request);
      const id = parseStreamId(request.params.id);
      const [first] = id ? await deps.readHistory(id, { after: 0, limit: 1 }) : [];
      if (!id || !first) throw new Problem('not_found', 'There is no such stream.');
      const vary = reply.getHeader('vary');
      reply.header('vary', vary === undefined ? 'accept' : `${vary}, accept`);
      if (wantsStream(request.headers.accept)) return live(deps, request, reply, id);
      const { cursor, limit = 50 } = request.query;
      const list = `stream ${id}`;
      const after = readVersionCursor(deps.hmac, list, cursor);
      // One more than asked for says whether there is a next page.
      const found = await deps.readHistory(id, { after, limit: limit + 1 });
      const items = found.slice(0, limit);
      const last = items.at(-1);
      revalidatedList(reply);
      const answer = { id, kind: kindOf(id), partition: partitionOf(id), items: items.map(shownEvent) };
      if (found.length <= limit || !last) return answer;
      const nextCursor = writeVersionCursor(deps.hmac, list, last.version);
      reply.header('link', nextLink(request.url, nextCursor));
      return { ...answer, nextCursor };
    },
  );
}

async function live(
  deps: StreamDeps,
  request: FastifyRequest<{ Querystring: Static<typeof Query> }>,
  reply: FastifyReply,
  id: StreamId,
) {
  const caller = callerOf(request);
  if (request.method === 'HEAD') return reply.headers(STREAM_HEADERS).send('');
  const signal = deps.streams.open(untilClosed(reply), caller.accountId);
  const events = liveStream({
    known: lastEventId(request.headers['last-event-id'], request.query.lastEventId),
    follow: (after, idleMs) =>
      deps.followStream(id, {
        ...{ after, idleMs, signal },
        onOverflow: () => {
          deps.streams.dropped();
          reply.raw.destroy();
        },
      }),
    write: (event) => formatEvent({ id: event.version, event: event.type, data: shownEvent(event) }),
    allowed: async () => (await deps.checkSession(caller)) !== 'ended',
    onFailure: (err) => request.log.warn({ err, id }, 'live stream broke off'),
  });
  // As a stream of bytes, so that Fastify waits for slow readers and ends it when they leave.
  return reply.headers(STREAM_HEADERS).send(Readable.from(events, { objectMode: false }));
}
