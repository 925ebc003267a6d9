import type { FastifyRequest } from 'fastify';
import { type Static, Type } from 'typebox';
import type { LimitPolicy, TakeLimit } from '../access/limits.ts';
import { type Hmac, readSigned, signText } from '../access/signing.ts';
import type { eraseAccount, erasureAgain } from '../commands/erasures.ts';
import { type Account, Erased } from '../domain/accounts.ts';
import { type AccountId, parseStreamId, type SessionId } from '../domain/ids.ts';
import type { Session } from '../domain/sessions.ts';
import { callerOf, sessionEnded } from './authentication.ts';
import { type ContextOf, commandAnswer, doneOf } from './commands.ts';
import { Problem } from './problems.ts';
import { isReauthenticated, REAUTHENTICATION_SECONDS } from './reauthentication.ts';
import { Id, Strict, Time, Version } from './schemas.ts';
import type { Bound, Routes } from './types.ts';

/** Guesses at a password by who holds a token. */
export const ERASURE_LIMIT: LimitPolicy = {
  kind: 'window',
  name: 'erasures',
  limit: 10,
  windowSeconds: 900,
};
/** Who knew the password has made no guess. */
const GIVEN_BACK = -1;

const RECEIPT = 'receipt of an erasure';

const Proof = Type.Union([
  Strict({ password: Type.String({ minLength: 1, maxLength: 128 }) }),
  Strict({
    reauthentication: Type.String({
      minLength: 1,
      maxLength: 2000,
      description: `In place of the password: the access token of another session of yours, for which you logged in at most ${REAUTHENTICATION_SECONDS} seconds ago.`,
    }),
  }),
]);
const Accepted = Type.Object(
  { id: Id, version: Version },
  {
    description:
      'The account is closed for good. How far it is stands at Location, for which no token is needed.',
  },
);
const Erasure = Type.Object(
  {
    id: Id,
    status: Type.Enum(['erasing', 'erased']),
    erasedAt: Type.Optional(Time),
    completedAt: Type.Optional(Time),
    ended: Type.Optional({
      ...Erased,
      description: 'What there was of the account, all of it ended or removed.',
    }),
    version: Version,
  },
  { description: 'An erasure.' },
);

type ErasureRequest = FastifyRequest & { readonly body: Static<typeof Proof> };

export type ErasureDeps = {
  readonly hmac: Hmac;
  readonly contextOf: ContextOf;
  readonly takeLimit: TakeLimit;
  readonly passwordMatches: (accountId: AccountId, password: string) => Promise<boolean>;
  readonly eraseAccount: Bound<typeof eraseAccount>;
  readonly erasureAgain: Bound<typeof erasureAgain>;
  /** From the write side. */
  readonly loadSession: (id: SessionId) => Promise<{ readonly state: Session }>;
  readonly loadAccount: (id: AccountId) => Promise<{ readonly state: Account; readonly version: number }>;
};

async function doneNow(deps: ErasureDeps, request: ErasureRequest, accountId: AccountId) {
  const { body } = request;
  if ('password' in body) {
    if (!(await deps.passwordMatches(accountId, body.password)))
      throw new Problem('wrong_credentials', 'The password is wrong. Nothing was erased.');
  } else if (!(await isReauthenticated(deps, request, callerOf(request), body.reauthentication))) {
    throw new Problem(
      'wrong_credentials',
      `This is no access token of another session of yours, begun by logging in at most ${REAUTHENTICATION_SECONDS} seconds ago. Nothing was erased.`,
    );
  }
  await deps.takeLimit(ERASURE_LIMIT, accountId, GIVEN_BACK);
  return doneOf(await deps.eraseAccount(deps.contextOf(request), { accountId }));
}

/** Whose reply was lost asks again, and has no session any more: the same request under the same key has the same answer. */
async function doneBefore(deps: ErasureDeps, request: ErasureRequest, accountId: AccountId) {
  const before = await deps.erasureAgain(deps.contextOf(request), { accountId });
  if (before.kind !== 'done') throw sessionEnded();
  await deps.takeLimit(ERASURE_LIMIT, accountId, GIVEN_BACK);
  return before;
}

export function erasureRoutes(deps: ErasureDeps): Routes {
  return (app) => {
    app.post(
      '/v1/accounts/me/erasure',
      {
        schema: {
          summary: 'Erase your account, and all that is known of you, for good',
          tags: ['Accounts'],
          operationId: 'eraseMyAccount',
          body: Proof,
          response: { 202: Accepted },
        },
        config: {
          auth: 'account',
          command: true,
          answersAgain: true,
          limits: [{ policy: ERASURE_LIMIT, by: 'account' }],
        },
      },
      async (request, reply) => {
        const { accountId } = callerOf(request);
        const done = request.sessionEnded
          ? await doneBefore(deps, request, accountId)
          : await doneNow(deps, request, accountId);
        const receipt = signText(deps.hmac, RECEIPT, accountId);
        commandAnswer(reply, done, { status: 202, location: `/v1/erasures/${receipt}` });
        return reply.code(202).send(done.body);
      },
    );

    app.get(
      '/v1/erasures/:receipt',
      {
        schema: {
          summary: 'See how far an erasure is, by its receipt',
          description: 'The address is the credential: whoever was erased has no other any more.',
          tags: ['Accounts'],
          operationId: 'readErasure',
          params: Type.Object({ receipt: Type.String({ maxLength: 500 }) }),
          response: { 200: Erasure },
        },
        config: { auth: 'signed' },
      },
      async (request, reply) => {
        const text = readSigned(deps.hmac, RECEIPT, request.params.receipt) ?? '';
        const id: AccountId | undefined = parseStreamId(text, 'acc');
        if (!id) throw new Problem('invalid_link', 'This is no receipt of ours.');
        const { state, version } = await deps.loadAccount(id);
        if (state.phase !== 'erasing' && state.phase !== 'erased') {
          throw new Problem('not_found', 'Nobody is being erased here.');
        }
        reply.header('cache-control', 'private, no-store');
        const { phase: status, erasedAt } = state;
        if (state.phase === 'erasing') return { id, status, erasedAt, version };
        return { id, status, erasedAt, completedAt: state.completedAt, ended: state.erased, version };
      },
    );
  };
}
