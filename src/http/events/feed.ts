import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { type Static, Type } from 'typebox';
import type { SessionCheck } from '../../access/sessions.ts';
import type { Hmac } from '../../access/signing.ts';
import {
  type EventFilter,
  type FeedPage,
  type FeedStep,
  firstPlaces,
  type Places,
} from '../../domain/feed.ts';
import { parseStreamId } from '../../domain/ids.ts';
import { callerOf } from '../authentication.ts';
import { revalidatedList } from '../caching.ts';
import { untilClosed } from '../consistency.ts';
import { nextLink } from '../cursors.ts';
import type { Streams } from '../draining.ts';
import { checkRange, operatorOf } from '../operators.ts';
import { invalid } from '../problems.ts';
import { Limit, NotModified, Strict, Time } from '../schemas.ts';
import { STREAM_HEADERS, TicketQuery, wantsStream } from '../streams.ts';
import type { App } from '../types.ts';
import { FeedCursor, FeedEventId, placesOf, readPlaces, writePlaces } from './cursor.ts';
import { Event, shownEvent } from './event.ts';
import { liveFeed } from './live.ts';

const Events = Type.Object(
  {
    items: Type.Array(Event),
    complete: Type.Boolean({
      description:
        'False: Redis can’t be read now, so events that the ledger has not got yet may be missing.',
    }),
    nextCursor: Type.Optional(FeedCursor),
  },
  {
    description:
      'A page, the oldest first. Where much has to be looked through it may be short, or even empty: there is more as long as there is a `nextCursor`.',
  },
);
const Query = Strict({
  type: Type.Optional(Type.String({ maxLength: 64 })),
  correlationId: Type.Optional(Type.String({ maxLength: 200 })),
  streamId: Type.Optional(Type.String({ maxLength: 80 })),
  from: Type.Optional({ ...Time, description: 'At or after. A live stream begins here; without it, now.' }),
  to: Type.Optional({ ...Time, description: 'Before. Not for a live stream.' }),
  limit: Type.Optional(Limit),
  cursor: Type.Optional(FeedCursor),
  ticket: TicketQuery,
  lastEventId: FeedEventId,
});
type Query = Static<typeof Query>;

export type FeedReadDeps = {
  readonly hmac: Hmac;
  readonly partitions: number;
  /** Throws `StoreUnavailableError`. */
  readonly readFeed: (range: {
    readonly after: Places;
    readonly filter: EventFilter;
    readonly limit: number;
  }) => Promise<FeedPage>;
  /** Where the partitions end now. Throws `StoreUnavailableError`. */
  readonly placesNow: () => Promise<Places>;
  readonly followFeed: (options: {
    readonly after: Places;
    readonly filter: EventFilter;
    readonly idleMs: number;
    readonly signal: AbortSignal;
  }) => AsyncIterable<FeedStep>;
  readonly streams: Streams;
  readonly checkSession: SessionCheck;
};

export function feedRoutes(app: App, deps: FeedReadDeps): void {
  app.get(
    '/v1/ops/events',
    {
      schema: {
        summary: 'Read the events of all streams, or follow them live',
        description:
          'A list, or, for who accepts `text/event-stream`, server-sent events: those since `from`, or since now, and then each new one, with its type as event and the items of the list as data. Of a stream they come in order; over streams nearly in that of time. The id to resume from may also be a `nextCursor`. `resync`: the id was unknown, so it begins with `from`, or now; with `lost` in its data, those events were lost together with Redis, and what stands follows.',
        tags: ['Operation'],
        operationId: 'readEvents',
        querystring: Query,
        response: {
          200: {
            description: 'Events, the oldest first.',
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
      const { query } = request;
      const filter = filterOf(query);
      const vary = reply.getHeader('vary');
      reply.header('vary', vary === undefined ? 'accept' : `${vary}, accept`);
      if (wantsStream(request.headers.accept)) return live(deps, request, reply, filter);
      const { limit = 50, cursor } = query;
      const after =
        cursor === undefined ? firstPlaces(deps.partitions) : placesOf(deps.hmac, deps.partitions, cursor);
      const page = await deps.readFeed({ after, filter, limit });
      revalidatedList(reply);
      const answer = { items: page.events.map(shownEvent), complete: page.whole };
      if (!page.more) return answer;
      const nextCursor = writePlaces(deps.hmac, page.end);
      reply.header('link', nextLink(request.url, nextCursor));
      return { ...answer, nextCursor };
    },
  );
}

function filterOf({ type, correlationId, streamId, from, to }: Query): EventFilter {
  checkRange({ ...(from ? { from } : {}), ...(to ? { to } : {}) });
  const stream = streamId === undefined ? undefined : parseStreamId(streamId);
  if (streamId !== undefined && !stream) throw invalid('streamId', 'is no id of a stream');
  return {
    type,
    correlationId,
    streamId: stream,
    from: from === undefined ? undefined : new Date(from),
    to: to === undefined ? undefined : new Date(to),
  };
}

async function live(
  deps: FeedReadDeps,
  request: FastifyRequest<{ Querystring: Query }>,
  reply: FastifyReply,
  filter: EventFilter,
) {
  const { cursor, limit, lastEventId } = request.query;
  if (filter.to || limit !== undefined || cursor !== undefined) {
    throw invalid(filter.to ? 'to' : cursor === undefined ? 'limit' : 'cursor', 'is not for a live stream');
  }
  const caller = callerOf(request);
  const told = String(request.headers['last-event-id'] ?? lastEventId ?? '');
  const known = told === '' ? undefined : readPlaces(deps.hmac, deps.partitions, told);
  const after = known ?? (filter.from ? firstPlaces(deps.partitions) : await deps.placesNow());
  if (request.method === 'HEAD') return reply.headers(STREAM_HEADERS).send('');
  const signal = deps.streams.open(untilClosed(reply), caller.accountId);
  const events = liveFeed({
    resync: told !== '' && known === undefined,
    after,
    follow: (idleMs) => deps.followFeed({ after, filter, idleMs, signal }),
    idOf: (places) => writePlaces(deps.hmac, places),
    allowed: async () => (await deps.checkSession(caller)) !== 'ended',
    onFailure: (err) => request.log.warn({ err }, 'live stream broke off'),
  });
  // As a stream of bytes, so that Fastify waits for slow readers and ends it when they leave.
  return reply.headers(STREAM_HEADERS).send(Readable.from(events, { objectMode: false }));
}
