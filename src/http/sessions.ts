import type { FastifyReply } from 'fastify';
import { Type } from 'typebox';
import type { LimitPolicy, TakeLimit } from '../access/limits.ts';
import { ACCESS_TOKEN_SECONDS, claimsOf } from '../access/tokens.ts';
import { normalizeEmail } from '../commands/email.ts';
import type { CommandResult } from '../commands/handle.ts';
import type { endSession, LoggedIn, login, refreshSession, WithRefreshToken } from '../commands/sessions.ts';
import { parseStreamId, type SessionId } from '../domain/ids.ts';
import type { Session } from '../domain/sessions.ts';
import { callerOf } from './authentication.ts';
import { notModified } from './caching.ts';
import { type ContextOf, commandAnswer, doneOf } from './commands.ts';
import { limit } from './limits.ts';
import { Problem } from './problems.ts';
import { Id, IdParams, NotModified, Strict, Time, Version } from './schemas.ts';
import type { App, Bound, Routes } from './types.ts';

/** Bursts of mistakes of people behind one address are fine; thousands of guesses are not. */
export const LOGIN_ADDRESS_LIMIT: LimitPolicy = {
  kind: 'bucket',
  name: 'logins',
  capacity: 60,
  refillPerSecond: 1,
};
/** Guesses at one account from one address; also how many of its log-ins may be under way at once. */
export const LOGIN_ACCOUNT_LIMIT: LimitPolicy = {
  kind: 'window',
  name: 'account-logins',
  limit: 30,
  windowSeconds: 900,
};

/** Limits are on guesses: who knew the password, or holds the token, has made none. */
const GIVEN_BACK = -1;

const Credentials = Strict({
  email: Type.String({ minLength: 3, maxLength: 254, examples: ['ada@example.org'] }),
  password: Type.String({ minLength: 1, maxLength: 128 }),
});
const RefreshToken = Strict({ refreshToken: Type.String({ minLength: 1, maxLength: 200 }) });

const Tokens = Type.Object(
  {
    id: Id,
    version: Version,
    sessionId: Id,
    accessToken: Type.String(),
    refreshToken: Type.String(),
    expiresIn: Type.Integer({ description: 'Seconds that the access token is good for.' }),
  },
  { description: 'Both tokens, shown this once.' },
);
const SessionBody = Type.Object(
  { id: Id, accountId: Id, expiresAt: Time, version: Version },
  { description: 'A session of the caller that stands.' },
);

export type SessionDeps = {
  readonly contextOf: ContextOf;
  readonly takeLimit: TakeLimit;
  readonly login: Bound<typeof login>;
  readonly refreshSession: Bound<typeof refreshSession>;
  readonly endSession: Bound<typeof endSession>;
  /** From the write side. */
  readonly loadSession: (id: SessionId) => Promise<{ readonly state: Session; readonly version: number }>;
};

export function sessionRoutes(deps: SessionDeps): Routes {
  return (app) => {
    app.post(
      '/v1/sessions',
      {
        schema: {
          summary: 'Log in',
          tags: ['Sessions'],
          operationId: 'logIn',
          body: Credentials,
          response: { 201: Tokens },
        },
        config: { command: true, limits: [{ policy: LOGIN_ADDRESS_LIMIT, by: 'address' }] },
      },
      async (request, reply) => {
        const context = deps.contextOf(request);
        const subject = `${normalizeEmail(request.body.email)}\n${request.ip}`;
        await limit(deps.takeLimit, reply, [{ policy: LOGIN_ACCOUNT_LIMIT, subject }]);
        const result = await deps.login(context, request.body);
        if (result.kind === 'done') {
          await Promise.all([
            deps.takeLimit(LOGIN_ACCOUNT_LIMIT, subject, GIVEN_BACK),
            deps.takeLimit(LOGIN_ADDRESS_LIMIT, request.ip, GIVEN_BACK),
          ]);
        }
        return tokens(app, reply, 201, result);
      },
    );

    app.post(
      '/v1/sessions/refresh',
      {
        schema: {
          summary: 'Trade the refresh token for new tokens',
          tags: ['Sessions'],
          operationId: 'refreshSession',
          body: RefreshToken,
          response: { 200: Tokens },
        },
        config: { command: true, limits: [{ policy: LOGIN_ADDRESS_LIMIT, by: 'address' }] },
      },
      async (request, reply) => {
        const result = await deps.refreshSession(deps.contextOf(request), request.body);
        if (result.kind === 'done') await deps.takeLimit(LOGIN_ADDRESS_LIMIT, request.ip, GIVEN_BACK);
        return tokens(app, reply, 200, result);
      },
    );

    app.get(
      '/v1/sessions/:id',
      {
        schema: {
          summary: 'Read a session of yours, or `current`',
          tags: ['Sessions'],
          operationId: 'readSession',
          params: IdParams,
          response: { 200: SessionBody, 304: NotModified },
        },
        config: { auth: 'account' },
      },
      async (request, reply) => {
        const { id, state, version } = await ownSession(deps, callerOf(request), request.params.id);
        if (notModified(request, reply, version)) return reply.code(304).send(undefined);
        return { id, accountId: state.accountId, expiresAt: state.expiresAt, version };
      },
    );

    app.delete(
      '/v1/sessions/:id',
      {
        schema: {
          summary: 'End a session of yours, or `current`: its access token stops working at once',
          tags: ['Sessions'],
          operationId: 'endSession',
          params: IdParams,
          response: { 204: Type.Null({ description: 'It has ended.' }) },
        },
        config: { auth: 'account', command: true },
      },
      async (request, reply) => {
        const { id } = await ownSession(deps, callerOf(request), request.params.id);
        const done = doneOf(await deps.endSession(deps.contextOf(request), { sessionId: id }));
        reply.header('position', done.position).header('durability', done.durability);
        return reply.code(204).send(null);
      },
    );
  };
}

function tokens(
  app: App,
  reply: FastifyReply,
  status: 200 | 201,
  result: WithRefreshToken<CommandResult<LoggedIn>>,
) {
  const { refreshToken } = result;
  const done = doneOf<CommandResult<LoggedIn>>(result);
  const { id, version, accountId, role } = done.body;
  commandAnswer(reply, done, { status, location: `/v1/sessions/${id}`, secret: true });
  if (refreshToken === undefined) throw new Error(`session ${id} began without a refresh token`);
  const accessToken = app.jwt.sign(claimsOf({ accountId, sessionId: id, role }));
  return { id, version, sessionId: id, accessToken, refreshToken, expiresIn: ACCESS_TOKEN_SECONDS };
}

/** The caller's own session that stands: another's, or one that has ended, is not there. */
async function ownSession(
  deps: SessionDeps,
  caller: { readonly accountId: string; readonly sessionId: SessionId },
  asked: string,
) {
  const id: SessionId | undefined = asked === 'current' ? caller.sessionId : parseStreamId(asked, 'ses');
  const loaded = id && (await deps.loadSession(id));
  if (!id || loaded?.state.phase !== 'active' || loaded.state.accountId !== caller.accountId) {
    throw new Problem('not_found', 'There is no such session of yours.');
  }
  return { id, state: loaded.state, version: loaded.version };
}
