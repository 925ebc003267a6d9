import type { FastifyReply, FastifyRequest } from 'fastify';
import { parseStreamId, type StreamId } from '../domain/ids.ts';
import { formatPosition, type Position, parsePosition } from '../domain/position.ts';
import { NotIncludedError, type Wanted } from '../projections/reading.ts';
import { invalid, Problem } from './problems.ts';
import type { App } from './types.ts';

const DEFAULT_WAIT_SECONDS = 5;
const MAX_WAIT_SECONDS = 30;
/** One for each partition that a client may have written to, and then some. */
const MAX_POSITIONS = 1024;
/** Longer than that, `Position` would not come through proxies, and not back as `Consistent-With` either. */
const MAX_POSITION_LENGTH = 6_000;

/** What the caller of a route with `reads` wants its answer to include. */
export function wantedOf(request: FastifyRequest): Wanted {
  if (!request.wanted)
    throw new Error(`${request.routeOptions.url} has no reads, so nothing is wanted of it`);
  return request.wanted;
}

/** Reads what queries must include (`Consistent-With`), on routes with `reads`. */
export function readConsistency(app: App): void {
  app.decorateRequest('wanted', null);
  app.addHook('preHandler', (request, reply, done) => {
    if (request.routeOptions.config.reads !== undefined) request.wanted = wantedBy(request, reply);
    done();
  });
}

function wantedBy(request: FastifyRequest, reply: FastifyReply): Wanted {
  const header = request.headers['consistent-with'];
  const positions = header === undefined ? [] : positionsOf(String(header));
  const asked = header === undefined ? undefined : waitSecondsOf(request.headers.prefer);
  if (asked !== undefined) reply.header('preference-applied', `wait=${asked}`);
  return {
    positions,
    timeoutMs: (asked ?? DEFAULT_WAIT_SECONDS) * 1000,
    get signal() {
      return untilClosed(reply); // most queries wait for nothing
    },
    ...(header === undefined ? {} : { onAnswer: (at) => answerPosition(reply, positions, at) }),
  };
}

/** `Position` of an answer: brought to the next query as `Consistent-With`, nothing that was shown goes back. */
function answerPosition(reply: FastifyReply, wanted: readonly Position[], at: readonly Position[]): void {
  const latest = new Map<number, Position>();
  for (const position of [...wanted, ...at]) {
    const known = latest.get(position.partition);
    if (!known || position.seq > known.seq) latest.set(position.partition, position);
  }
  const text = [...latest.values()].map(formatPosition).join(', ');
  if (at.length > 0 && text.length <= MAX_POSITION_LENGTH) reply.header('position', text);
}

/** What a client is told of it. */
export function notIncluded({ outcome, timeoutMs, paused }: NotIncludedError): Problem {
  switch (outcome) {
    case 'behind': {
      const why = paused ? ' An operator has paused it.' : '';
      return new Problem(
        'read_model_behind',
        `The read model did not come that far within ${timeoutMs / 1000} s.${why}`,
      );
    }
    case 'lost':
      return new Problem('position_lost', 'A position of Consistent-With was lost with Redis.');
    case 'parked':
      return new Problem('read_model_parked', 'An event that the answer must include is parked.');
  }
}

/** The first event of a stream: where it stands, and whose the stream is. */
export type FindFirstEvent = (
  id: StreamId,
) => Promise<{ readonly position: Position; readonly owner?: string } | undefined>;

/** Finds one thing, as far as is wanted; with `owner`, only if it is theirs. */
export type FindOne<V> = (id: string, owner: string | undefined, wanted: Wanted) => Promise<V | undefined>;

/**
 * A query for one thing that waits, five seconds at most, where it was made a moment ago and the read model has not
 * come to it: who follows a `Location` at once would be told that there is nothing, and some clients, `EventSource`
 * among them, never ask again. Whose it is not is told so at once. What happened to it later, `Consistent-With` waits
 * for. The query throws a `NotIncludedError` where the read model does not come that far.
 */
export function onceMade<V>(findFirst: FindFirstEvent, find: FindOne<V>): FindOne<V> {
  return async (id, owner, wanted) => {
    const found = await find(id, owner, wanted);
    const streamId = found === undefined ? parseStreamId(id) : undefined;
    const first = streamId && (await findFirst(streamId));
    if (!first || (owner !== undefined && first.owner !== owner)) return found;
    const withFirst = { ...wanted, positions: [...wanted.positions, first.position] };
    return find(id, owner, withFirst).catch((error: unknown) => {
      if (error instanceof NotIncludedError && error.outcome === 'lost') return found;
      throw error;
    });
  };
}

function positionsOf(header: string): Position[] {
  const texts = header.split(',').map((text) => text.trim());
  const positions = texts.map(parsePosition).filter((position) => position !== undefined);
  if (positions.length !== texts.length || positions.length > MAX_POSITIONS) {
    throw invalid('Consistent-With', 'is a list of positions as commands answered them');
  }
  return positions;
}

/** `Prefer: wait=N` (RFC 7240), at most 30 s. A preference that is malformed is ignored, as the RFC says. */
function waitSecondsOf(header: string | string[] | undefined): number | undefined {
  const [, seconds] = /(?:^|[,\s])wait\s*=\s*"?(\d{1,6})"?\s*(?:$|[,;])/i.exec(String(header ?? '')) ?? [];
  return seconds === undefined ? undefined : Math.min(MAX_WAIT_SECONDS, Number(seconds));
}

/** Aborted when the connection closes, or the answer is complete. */
export function untilClosed(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  if (reply.raw.destroyed) controller.abort();
  else reply.raw.once('close', () => controller.abort());
  return controller.signal;
}
