import { Type } from 'typebox';
import type { LimitPolicy, TakeLimit } from '../access/limits.ts';
import type { registerAccount } from '../commands/accounts.ts';
import { Role } from '../domain/accounts.ts';
import type { AccountView } from '../projections/accounts.ts';
import { callerOf } from './authentication.ts';
import { notModified } from './caching.ts';
import { type ContextOf, commandAnswer, doneOf } from './commands.ts';
import { type FindOne, wantedOf } from './consistency.ts';
import { Problem } from './problems.ts';
import { Id, NotModified, Strict, Time, Version } from './schemas.ts';
import type { Bound, Routes } from './types.ts';

/** Each costs a bcrypt. Many people may sit behind one address, and all come on the same morning. */
export const REGISTRATION_LIMIT: LimitPolicy = {
  kind: 'bucket',
  name: 'registrations',
  capacity: 300,
  refillPerSecond: 0.2,
};
/** `email_taken` tells who is here, so it counts as this many more: 60 such answers use the limit up. */
const TAKEN_COUNTS_MORE = 4;

const PART = '[^\\s@.\\u0000-\\u001f\\u007f]{1,63}';
const LOCAL = '[^\\s@\\u0000-\\u001f\\u007f]{1,64}';
const EMAIL = `^\\s*${LOCAL}@${PART}(?:\\.${PART})+\\s*$`;
const VISIBLE = '^(?=\\s*\\S)[^\\u0000-\\u001f\\u007f]+$';

const Registration = Strict({
  email: Type.String({ pattern: EMAIL, maxLength: 254, examples: ['ada@example.org'] }),
  password: Type.String({ minLength: 12, maxLength: 128 }),
  name: Type.String({ minLength: 1, maxLength: 200, pattern: VISIBLE, examples: ['Ada'] }),
});

const Registered = Type.Object({ id: Id, version: Version }, { description: 'The account is there.' });

const Account = Type.Object(
  {
    id: Id,
    email: Type.String(),
    name: Type.String(),
    role: Role,
    createdAt: Time,
    version: Version,
  },
  { description: 'The account of the caller.' },
);

export function accountRoutes(deps: {
  readonly contextOf: ContextOf;
  readonly takeLimit: TakeLimit;
  readonly registerAccount: Bound<typeof registerAccount>;
  readonly findAccount: FindOne<AccountView>;
  /** Opens what is sealed for a person. */
  readonly openFor: (accountId: string, texts: readonly string[]) => Promise<string[]>;
}): Routes {
  return (app) => {
    app.post(
      '/v1/accounts',
      {
        schema: {
          summary: 'Register',
          tags: ['Accounts'],
          operationId: 'registerAccount',
          body: Registration,
          response: { 201: Registered },
        },
        config: { command: true, limits: [{ policy: REGISTRATION_LIMIT, by: 'address' }] },
      },
      async (request, reply) => {
        const result = await deps.registerAccount(deps.contextOf(request), request.body);
        if (result.kind === 'refused' && result.refusal.code === 'email_taken') {
          await deps.takeLimit(REGISTRATION_LIMIT, request.ip, TAKEN_COUNTS_MORE);
        }
        const done = doneOf(result);
        commandAnswer(reply, done, { status: 201, location: '/v1/accounts/me' });
        return { id: done.body.id, version: done.body.version };
      },
    );

    app.get(
      '/v1/accounts/me',
      {
        schema: {
          summary: 'Read your account',
          tags: ['Accounts'],
          operationId: 'readMyAccount',
          response: { 200: Account, 304: NotModified },
        },
        config: { auth: 'account', reads: 'accounts' },
      },
      async (request, reply) => {
        const account = await deps.findAccount(callerOf(request).accountId, undefined, wantedOf(request));
        if (!account) throw new Problem('not_found', 'The account is not there yet; see Consistent-With.');
        if (notModified(request, reply, account.version)) return reply.code(304).send(undefined);
        const [email = '', name = ''] = await deps.openFor(account.id, [account.email, account.name]);
        const { id, role, createdAt, version } = account;
        return { id, email, name, role, createdAt, version };
      },
    );
  };
}
