import { Type } from 'typebox';
import type { Hmac } from '../../access/signing.ts';
import { type Position, parsePosition } from '../../domain/position.ts';
import type { ParkedView } from '../../projections/parked-events.ts';
import { revalidatedList } from '../caching.ts';
import { nextLink, readPositionCursor, writePositionCursor } from '../cursors.ts';
import { operatorOf } from '../operators.ts';
import { Problem } from '../problems.ts';
import { Cursor, Limit, NotModified, Strict, Time } from '../schemas.ts';
import type { App } from '../types.ts';

const Parked = Type.Object({
  position: Type.String(),
  type: Type.Optional(
    Type.String({ description: 'Of the event. Absent where its part of the ledger is archived.' }),
  ),
  streamId: Type.Optional(Type.String()),
  row: Type.String({ description: 'Key of the row that misses it.' }),
  error: Type.String({
    description: 'Why it could not be applied, or that it waits for one that could not.',
  }),
  parkedAt: Time,
});
const ParkedEvents = Type.Object(
  { items: Type.Array(Parked), nextCursor: Type.Optional(Cursor) },
  {
    description:
      'A page of them, of each partition in order: the first of a row is what the others wait for.',
  },
);

export type ParkedDeps = {
  readonly hmac: Hmac;
  /** What the group of a read model has parked. Undefined: there is no such read model. */
  readonly listParked: (
    name: string,
    range: { readonly after: Position | undefined; readonly limit: number },
  ) => Promise<readonly ParkedView[] | undefined>;
};

/** What the cursor of a page of parked events is a cursor of. */
export const parkedListOf = (name: string) => `parked ${name}`;

export function parkedRoute(app: App, { hmac, listParked }: ParkedDeps): void {
  app.get(
    '/v1/ops/projections/:name/parked',
    {
      schema: {
        summary: 'List the events that a read model could not apply, and why',
        tags: ['Operation'],
        operationId: 'listParkedEvents',
        params: Type.Object({ name: Type.String({ maxLength: 100, description: 'Of the read model.' }) }),
        querystring: Strict({ limit: Type.Optional(Limit), cursor: Type.Optional(Cursor) }),
        response: { 200: ParkedEvents, 304: NotModified },
      },
      config: { auth: 'account', forbids: true },
    },
    async (request, reply) => {
      operatorOf(request);
      const { name } = request.params;
      const { cursor, limit = 50 } = request.query;
      const list = parkedListOf(name);
      const after = readPositionCursor(hmac, list, cursor);
      // One more than asked for says whether there is a next page.
      const found = await listParked(name, { after, limit: limit + 1 });
      if (!found) throw new Problem('not_found', 'There is no such read model.');
      const items = found.slice(0, limit);
      const last = parsePosition(items.at(-1)?.position ?? '');
      revalidatedList(reply);
      if (found.length <= limit || !last) return { items };
      const nextCursor = writePositionCursor(hmac, list, last);
      reply.header('link', nextLink(request.url, nextCursor));
      return { items, nextCursor };
    },
  );
}
