import type { FastifyReply, FastifyRequest } from 'fastify';
import { parseStreamId, type StreamId } from '../domain/ids.ts';
import { type Position, parsePosition } from '../domain/position.ts';
import { invalid, Problem } from './problems.ts';
import type { App } from './types.ts';

/** Waits until a read model includes positions, or says why it does not. */
export type WaitForReadModel = (wait: {
  /** Name of the projection, without its version. */
  readonly projection: string;
  readonly positions: readonly Position[];
  readonly timeoutMs: number;
  /** Aborted when the client leaves. */
  readonly signal: AbortSignal;
}) => Promise<'ok' | 'behind' | 'lost' | 'parked'>;

const DEFAULT_WAIT_SECONDS = 5;
const MAX_WAIT_SECONDS = 30;
/** One for each partition that a client may have written to, and then some. */
const MAX_POSITIONS = 1024;

/** Lets queries wait for their callers' own writes (`Consistent-With`), on routes with `reads`. */
export function waitForWrites(app: App, wait: WaitForReadModel): void {
  app.addHook('preHandler', (request, reply, done) => {
    const { reads } = request.routeOptions.config;
    const header = request.headers['consistent-with'];
    if (reads === undefined || header === undefined) return done();
    waitFor(request, reply, wait, reads, String(header)).then(() => done(), done);
  });
}

async function waitFor(
  request: FastifyRequest,
  reply: FastifyReply,
  wait: WaitForReadModel,
  projection: string,
  header: string,
): Promise<void> {
  const positions = positionsOf(header);
  const asked = waitSecondsOf(request.headers.prefer);
  const seconds = asked ?? DEFAULT_WAIT_SECONDS;
  if (asked !== undefined) reply.header('preference-applied', `wait=${asked}`);
  const outcome = await wait({
    projection,
    positions,
    timeoutMs: seconds * 1000,
    signal: untilClosed(reply),
  });
  if (outcome !== 'ok') throw notThere(outcome, seconds);
}

function notThere(outcome: 'behind' | 'lost' | 'parked', seconds: number): Problem {
  switch (outcome) {
    case 'behind':
      return new Problem('read_model_behind', `The read model did not come that far within ${seconds} s.`);
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

/**
 * A query for one thing that waits, five seconds at most, where it was made a moment ago and the read model has not
 * come to it: who follows a `Location` at once would be told that there is nothing, and some clients, `EventSource`
 * among them, never ask again. Whose it is not is told so at once. What happened to it later, `Consistent-With` waits
 * for. The query throws a `Problem` where the read model does not come that far.
 *
 * @param find with `owner`, only if it is theirs
 */
export function onceMade<V>(
  deps: { readonly findFirst: FindFirstEvent; readonly wait: WaitForReadModel },
  projection: string,
  find: (id: string, owner?: string) => Promise<V | undefined>,
): (id: string, owner?: string) => Promise<V | undefined> {
  return async (id, owner) => {
    const found = await find(id, owner);
    const streamId = found === undefined ? parseStreamId(id) : undefined;
    const first = streamId && (await deps.findFirst(streamId));
    if (!first || (owner !== undefined && first.owner !== owner)) return found;
    const outcome = await deps.wait({
      projection,
      positions: [first.position],
      timeoutMs: DEFAULT_WAIT_SECONDS * 1000,
      signal: new AbortController().signal,
    });
    if (outcome === 'behind' || outcome === 'parked') throw notThere(outcome, DEFAULT_WAIT_SECONDS);
    return find(id, owner);
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
