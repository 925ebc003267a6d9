import { Type } from 'typebox';
import type { Hmac } from '../../access/signing.ts';
import type { Caller } from '../../access/tokens.ts';
import type { EventMeta, RawEvent } from '../../domain/event.ts';
import { type JobId, parseStreamId } from '../../domain/ids.ts';
import { formatPosition } from '../../domain/position.ts';
import { callerOf } from '../authentication.ts';
import { uncachedList } from '../caching.ts';
import { nextLink, readVersionCursor, writeVersionCursor } from '../cursors.ts';
import { Problem } from '../problems.ts';
import { Cursor, Id, IdParams, Limit, Strict, Time, Version } from '../schemas.ts';
import type { Routes } from '../types.ts';
import { ownerOf } from './schemas.ts';

const Event = Type.Object({
  id: Id,
  type: Type.String({ description: 'One of those in /asyncapi.json.' }),
  version: Version,
  position: Type.String(),
  time: Time,
  actor: Type.String({ description: 'Who did it: an account, or `system:<part>`.' }),
  data: Type.Unknown({
    description: 'As /asyncapi.json has it for the type; failures without their stacks.',
  }),
});
const Events = Type.Object(
  { items: Type.Array(Event), nextCursor: Type.Optional(Cursor) },
  { description: 'A page of what happened to the job, the oldest first.' },
);

/** Events of a stream with a version above `after`, at most `limit`. */
export type ReadHistory = (
  id: JobId,
  range: { readonly after: number; readonly limit: number },
) => Promise<readonly RawEvent[]>;

export type JobHistoryDeps = { readonly hmac: Hmac; readonly readHistory: ReadHistory };

/** All that ever happened to a job: nothing of it is overwritten by what comes later. */
export function jobHistoryRoutes(deps: JobHistoryDeps): Routes {
  return (app) => {
    app.get(
      '/v1/jobs/:id/events',
      {
        schema: {
          summary: 'Read the history of a job',
          tags: ['Jobs'],
          operationId: 'readJobHistory',
          params: IdParams,
          querystring: Strict({ limit: Type.Optional(Limit), cursor: Type.Optional(Cursor) }),
          response: { 200: Events },
        },
        config: { auth: 'account', reads: 'jobs' },
      },
      async (request, reply) => {
        const id: JobId | undefined = parseStreamId(request.params.id, 'job');
        if (!id || !(await isTheirs(deps.readHistory, callerOf(request), id))) {
          throw new Problem('not_found', 'There is no such job of yours.');
        }
        const { cursor, limit = 50 } = request.query;
        const list = `events of ${id}`;
        const after = readVersionCursor(deps.hmac, list, cursor);
        // One more than asked for says whether there is a next page.
        const found = await deps.readHistory(id, { after, limit: limit + 1 });
        const items = found.slice(0, limit);
        const last = items.at(-1);
        uncachedList(reply);
        if (found.length <= limit || !last) return { items: items.map(shownEvent) };
        const nextCursor = writeVersionCursor(deps.hmac, list, last.version);
        reply.header('link', nextLink(request.url, nextCursor));
        return { items: items.map(shownEvent), nextCursor };
      },
    );
  };
}

/** A job is whose its first event is. */
async function isTheirs(readHistory: ReadHistory, caller: Caller, id: JobId): Promise<boolean> {
  const [first] = await readHistory(id, { after: 0, limit: 1 });
  const owner = ownerOf(caller);
  return first !== undefined && (owner === undefined || metaOf(first).owner === owner);
}

function shownEvent(event: RawEvent) {
  const { at, actor } = metaOf(event);
  return {
    id: event.id,
    type: event.type,
    version: event.version,
    position: formatPosition(event),
    time: at,
    actor,
    data: withoutStack(JSON.parse(event.data)),
  };
}

/** Written by `encodeChange` alone. */
function metaOf(event: RawEvent): EventMeta {
  return JSON.parse(event.meta) as EventMeta;
}

/** A stack tells about our insides. */
function withoutStack(data: unknown): unknown {
  if (typeof data !== 'object' || data === null || !('error' in data)) return data;
  const { error } = data;
  if (typeof error !== 'object' || error === null || !('stack' in error)) return data;
  const { stack: _stack, ...rest } = error;
  return { ...data, error: rest };
}
