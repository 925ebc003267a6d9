import { Type } from 'typebox';
import type { Hmac } from '../access/signing.ts';
import type { OperationListing, OperationView } from '../projections/operations/queries.ts';
import type { Wanted } from '../projections/reading.ts';
import { revalidatedList } from './caching.ts';
import { wantedOf } from './consistency.ts';
import { nextLink, readCursor, writeCursor } from './cursors.ts';
import { checkRange, operatorOf } from './operators.ts';
import { Cursor, Id, Limit, NotModified, Strict, Time } from './schemas.ts';
import type { Routes } from './types.ts';

const Operation = Type.Object({
  id: Id,
  operation: Type.String({ description: 'What was done.', examples: ['projection.rebuild'] }),
  target: Type.String({ description: 'To what: a name or an id.' }),
  parameters: Type.Record(Type.String(), Type.Unknown(), { description: 'How, as it was asked for.' }),
  by: Type.String({ description: 'An account; or `system:cli:` and a user of the operating system.' }),
  reason: Type.String({ description: 'Why, in their words.' }),
  at: Time,
  correlationId: Type.String({ description: 'Shared by all events that follow from it.' }),
  traceId: Type.Optional(Type.String()),
});
const Operations = Type.Object(
  { items: Type.Array(Operation), nextCursor: Type.Optional(Cursor) },
  { description: 'A page of what operators did, the newest first.' },
);
const Listing = Strict({
  operation: Type.Optional(Type.String({ maxLength: 64 })),
  target: Type.Optional(Type.String({ maxLength: 200 })),
  by: Type.Optional(Type.String({ maxLength: 200 })),
  from: Type.Optional(Time),
  to: Type.Optional(Time),
  limit: Type.Optional(Limit),
  cursor: Type.Optional(Cursor),
});

export type OperationRoutesDeps = {
  readonly hmac: Hmac;
  readonly listOperations: (listing: OperationListing, wanted: Wanted) => Promise<readonly OperationView[]>;
};

/** What operators did, when and why. For operators. */
export function operationRoutes(deps: OperationRoutesDeps): Routes {
  return (app) => {
    app.get(
      '/v1/ops/operations',
      {
        schema: {
          summary: 'List what operators did, when and why',
          tags: ['Operation'],
          operationId: 'listOperations',
          querystring: Listing,
          response: { 200: Operations, 304: NotModified },
        },
        config: { auth: 'account', forbids: true, reads: 'operations' },
      },
      async (request, reply) => {
        operatorOf(request);
        const { cursor, limit = 50, ...filter } = request.query;
        checkRange(filter);
        const before = readCursor(deps.hmac, 'operations', cursor);
        // One more than asked for says whether there is a next page.
        const found = await deps.listOperations({ ...filter, before, limit: limit + 1 }, wantedOf(request));
        const items = found.slice(0, limit);
        const last = items.at(-1);
        revalidatedList(reply);
        if (found.length <= limit || !last) return { items };
        const nextCursor = writeCursor(deps.hmac, 'operations', { createdAt: last.at, id: last.id });
        reply.header('link', nextLink(request.url, nextCursor));
        return { items, nextCursor };
      },
    );
  };
}
