import type { FastifyRequest } from 'fastify';
import type { SessionCheck } from '../access/sessions.ts';
import type { Hmac } from '../access/signing.ts';
import {
  type Caller,
  createVerifiedTokens,
  readClaims,
  UnknownTokenKeyError,
  type VerifiedToken,
} from '../access/tokens.ts';
import { storeOutage } from './failures.ts';
import { Problem } from './problems.ts';
import { readTicket } from './tickets.ts';
import type { App } from './types.ts';

/**
 * Finds out who calls, on every route with `auth`, before anything else of the request is looked at.
 * The token's signature is verified once and remembered; its session is asked about every time.
 */
export function authenticateRequests(
  app: App,
  deps: { readonly checkSession: SessionCheck; readonly hmac: Hmac; readonly now?: () => number },
): void {
  const { checkSession, hmac, now = () => Date.now() } = deps;
  const verified = createVerifiedTokens();

  async function verify(request: FastifyRequest, token: string): Promise<Caller> {
    const known = verified.get(token, now());
    if (known) return known;
    const claims = await readToken(request);
    verified.add(token, claims);
    return claims;
  }

  async function authenticate(request: FastifyRequest): Promise<void> {
    const { auth, answersAgain } = request.routeOptions.config;
    const ticket = auth === 'stream' ? ticketOf(request) : undefined;
    const caller =
      ticket === undefined
        ? await verify(request, bearerOf(request))
        : readTicket(hmac, ticket, request.url, now());
    const standing = await checkSession(caller);
    if (standing === 'ended') {
      if (!answersAgain || request.headers['idempotency-key'] === undefined) throw sessionEnded();
      request.sessionEnded = true;
    }
    const isQuery = request.method === 'GET' || request.method === 'HEAD';
    if ((standing === 'away' || standing === 'fenced') && !isQuery) throw storeOutage(standing);
    request.caller = caller;
  }

  app.decorateRequest('caller', null);
  app.decorateRequest('sessionEnded', false);
  app.addHook('onRequest', (request, _reply, done) => {
    const { auth } = request.routeOptions.config;
    if (auth !== 'account' && auth !== 'stream') return done();
    authenticate(request).then(() => done(), done);
  });
}

export const sessionEnded = () => new Problem('invalid_token', 'The session of this token has ended.');

/**
 * What an access token says whose signature is one of ours, whatever has become of its session. Throws a `Problem`.
 * @param token another one than that of the request itself
 */
export async function readToken(request: FastifyRequest, token?: string): Promise<VerifiedToken> {
  // The types of what it takes know `extractToken` only where it is set for all requests.
  const verify = { cache: false, extractToken: () => token };
  let payload: unknown;
  try {
    payload = await (token === undefined ? request.jwtVerify() : request.jwtVerify({ decode: {}, verify }));
  } catch (error) {
    throw tokenProblem(error);
  }
  const claims = readClaims(payload);
  if (!claims) throw new Problem('invalid_token', 'The token is not an access token of ours.');
  return claims;
}

/** The caller of a route with `auth`. */
export function callerOf(request: FastifyRequest): Caller {
  if (!request.caller) throw new Error(`${request.routeOptions.url} has no auth, so it knows no caller`);
  return request.caller;
}

function bearerOf(request: FastifyRequest): string {
  const header = request.headers.authorization;
  if (header === undefined) throw new Problem('unauthenticated', 'This needs an access token.');
  const [, token] = /^Bearer ([^\s]+)$/i.exec(header) ?? [];
  if (token === undefined)
    throw new Problem('invalid_token', 'Authorization is not of the form: Bearer <token>.');
  return token;
}

function ticketOf(request: FastifyRequest): string | undefined {
  const { query } = request;
  if (typeof query !== 'object' || query === null || !('ticket' in query)) return undefined;
  return typeof query.ticket === 'string' ? query.ticket : '';
}

/**
 * Whatever the token's verification stumbles over is the token's fault, since the keys were read at start.
 * Some of these errors say 500 of themselves (another `alg`, another `typ`).
 */
function tokenProblem(error: unknown): Problem {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  const expired = code === 'FST_JWT_AUTHORIZATION_TOKEN_EXPIRED' || code === 'FAST_JWT_EXPIRED';
  const known = typeof code === 'string' && /^(FAST|FST)_JWT_/.test(code);
  const detail = expired ? 'The access token has expired.' : 'The access token is not valid.';
  const unexpected = !known && !(error instanceof UnknownTokenKeyError);
  return new Problem('invalid_token', detail, unexpected ? { cause: error } : {});
}
