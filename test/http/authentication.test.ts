import { createHmac, createPrivateKey, generateKeyPairSync, sign } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { StoreFencedError, StoreUnavailableError } from '../../src/eventstore/types.ts';
import { TICKET_SECONDS } from '../../src/http/tickets.ts';
import type { Routes } from '../../src/http/types.ts';
import { active, edge, hmac, tokens } from './harness.ts';

const whoAmI: Routes = (app) => {
  app.get('/v1/me', { config: { auth: 'account' } }, async (request) => request.caller);
  app.post('/v1/me', { config: { auth: 'account' } }, async (request) => request.caller);
  app.get('/v1/live', { config: { auth: 'stream' } }, async (request) => request.caller);
};

type Parts = { header?: object; payload?: object };
type Signer = (input: string) => Buffer | string;

const encode = (part: object | string) =>
  Buffer.from(typeof part === 'string' ? part : JSON.stringify(part)).toString('base64url');
const key = createPrivateKey(tokens.keys[0].privatePem);
const eddsa: Signer = (input) => sign(null, Buffer.from(input), key);

describe('an access token', () => {
  const { app, login, sessions } = edge({ routes: [whoAmI] });
  let accountId: string;
  let sessionId: string;
  let good: string;

  beforeAll(async () => {
    const somebody = await login();
    ({ accountId, sessionId, token: good } = somebody);
  });

  const seconds = () => Math.floor(Date.now() / 1000);
  /** A token that differs from a good one in what is said. */
  function token({ header = {}, payload = {} }: Parts = {}, signer: Signer = eddsa): string {
    const head = { alg: 'EdDSA', typ: 'at+jwt', kid: 'new', ...header };
    const claims = {
      sub: accountId,
      sid: sessionId,
      role: 'user',
      iss: tokens.issuer,
      aud: tokens.audience,
      iat: seconds(),
      exp: seconds() + 900,
      ...payload,
    };
    const input = `${encode(head)}.${encode(claims)}`;
    return `${input}.${Buffer.from(signer(input)).toString('base64url')}`;
  }
  const ask = (authorization: string | undefined, url = '/v1/me') =>
    app.inject({ url, headers: authorization === undefined ? {} : { authorization } });

  test('of ours is accepted, as often as it is sent, and also when it was signed with the older key', async () => {
    const older = createPrivateKey(tokens.keys[1]?.privatePem ?? '');
    const old = token({ header: { kid: 'old' } }, (input) => sign(null, Buffer.from(input), older));
    for (const one of [good, good, token(), old, old]) {
      const response = await ask(`Bearer ${one}`);
      expect(response.statusCode).toBe(200);
      expect(response.json()).toMatchObject({ accountId, sessionId, role: 'user' });
    }
    expect((await ask(`bearer ${good}`)).statusCode).toBe(200);
  });

  const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
  const stranger = generateKeyPairSync('ed25519').privateKey;
  const without = (claim: string) => ({ payload: { [claim]: undefined } });
  const table: [string, () => string][] = [
    ['that has expired', () => token({ payload: { exp: seconds() - 1 } })],
    ['that is not good yet', () => token({ payload: { nbf: seconds() + 60 } })],
    ['that is unsigned (alg none)', () => token({ header: { alg: 'none' } }, () => '')],
    ['whose signature was cut off', () => `${token().split('.').slice(0, 2).join('.')}.`],
    [
      'signed HS256 with the public key as secret',
      () =>
        token({ header: { alg: 'HS256' } }, (input) =>
          createHmac('sha256', tokens.keys[0].publicPem).update(input).digest(),
        ),
    ],
    [
      'of another algorithm',
      () => token({ header: { alg: 'RS256' } }, (input) => sign('sha256', Buffer.from(input), rsa)),
    ],
    ['that says ES256 over an EdDSA signature', () => token({ header: { alg: 'ES256' } })],
    ['of an algorithm that does not exist', () => token({ header: { alg: 'XX999' } })],
    ['without alg', () => token({ header: { alg: undefined } })],
    ['whose alg is no text', () => token({ header: { alg: { a: 1 } } })],
    ['without exp', () => token(without('exp'))],
    ['whose exp is no number', () => token({ payload: { exp: '9999999999' } })],
    ['without iat', () => token(without('iat'))],
    ['without aud', () => token(without('aud'))],
    ['without iss', () => token(without('iss'))],
    ['without sub', () => token(without('sub'))],
    ['without sid', () => token(without('sid'))],
    ['without role', () => token(without('role'))],
    ['for another audience', () => token({ payload: { aud: 'https://elsewhere.test' } })],
    ['of another issuer', () => token({ payload: { iss: 'https://elsewhere.test' } })],
    ['of another type', () => token({ header: { typ: 'JWT' } })],
    ['without a type', () => token({ header: { typ: undefined } })],
    ['with a role that does not exist', () => token({ payload: { role: 'root' } })],
    ['whose subject is no account', () => token({ payload: { sub: sessionId } })],
    ['with a critical header', () => token({ header: { crit: ['b64'], b64: false } })],
    ['of an unknown kid', () => token({ header: { kid: 'other' } })],
    ['without kid', () => token({ header: { kid: undefined } })],
    ['whose kid is no text', () => token({ header: { kid: ['new'] } })],
    ['whose kid is __proto__', () => token({ header: { kid: '__proto__' } })],
    ["signed with somebody else's key", () => token({}, (input) => sign(null, Buffer.from(input), stranger))],
    ['signed with the older key under the newer name', () => tokenOfOtherKid()],
    ['with another payload', () => tampered()],
    ['followed by a character', () => `${good}A`],
    ['with one segment too many', () => `${good}.AAAA`],
    ['of garbage', () => 'garbage'],
    ['of dots', () => '..'],
    ['whose parts are not JSON', () => `${encode('no')}.${encode('no')}.AAAA`],
    ['whose parts are JSON, but no objects', () => `${encode('[]')}.${encode('7')}.AAAA`],
    ['that is very long', () => 'A'.repeat(10_000)],
  ];
  const tokenOfOtherKid = () => {
    const older = createPrivateKey(tokens.keys[1]?.privatePem ?? '');
    return token({}, (input) => sign(null, Buffer.from(input), older));
  };
  const tampered = () => {
    const [header, , signature] = good.split('.');
    const payload = encode({ sub: accountId, sid: sessionId, role: 'operator', exp: seconds() + 900 });
    return `${header}.${payload}.${signature}`;
  };

  test.each(table)('%s is refused: 401, with how to authenticate', async (_name, make) => {
    const response = await ask(`Bearer ${make()}`);
    expect(response.statusCode).toBe(401);
    expect(response.headers['www-authenticate']).toBe('Bearer realm="millrace", error="invalid_token"');
    expect(response.headers['content-type']).toContain('application/problem+json');
    expect(response.json()).toMatchObject({ status: 401, code: 'invalid_token' });
  });

  test.each(['Basic YTpi', 'Bearer', 'Bearer ', `Bearer a b`])(
    '%j is no access token: 401',
    async (header) => {
      expect((await ask(header)).statusCode).toBe(401);
    },
  );

  test('that is missing is asked for', async () => {
    const response = await ask(undefined);
    expect(response.statusCode).toBe(401);
    expect(response.headers['www-authenticate']).toBe('Bearer realm="millrace"');
    expect(response.json()).toMatchObject({ code: 'unauthenticated' });
  });

  test('stops working at once when its session ends, and with another account of that session', async () => {
    const other = await login();
    expect((await ask(other.authorization)).statusCode).toBe(200);
    sessions.set(other.sessionId, { phase: 'ended', accountId: other.accountId });
    const response = await ask(other.authorization);
    expect(response.statusCode).toBe(401);
    expect(response.json()).toMatchObject({
      code: 'invalid_token',
      detail: expect.stringContaining('ended'),
    });
    sessions.set(other.sessionId, active(accountId));
    expect((await ask(other.authorization)).statusCode).toBe(401);
    sessions.set(other.sessionId, {
      ...active(other.accountId),
      expiresAt: '2020-01-01T00:00:00.000Z',
    } as never);
    expect((await ask(other.authorization)).statusCode).toBe(401);
  });

  test('is not looked at before an unknown route or method is told so', async () => {
    expect((await ask(undefined, '/v1/nothing')).statusCode).toBe(404);
    expect((await app.inject({ method: 'PUT', url: '/v1/me' })).statusCode).toBe(405);
  });

  test('with a HEAD request is checked as with GET', async () => {
    expect((await app.inject({ method: 'HEAD', url: '/v1/me' })).statusCode).toBe(401);
  });
});

test('an expired token is refused also if it was accepted a moment before', async () => {
  let now = Date.now();
  const { app, login } = edge({ routes: [whoAmI] });
  const { authorization } = await login();
  expect((await app.inject({ url: '/v1/me', headers: { authorization } })).statusCode).toBe(200);
  const realNow = Date.now;
  now = realNow() + 901_000;
  Date.now = () => now;
  try {
    expect((await app.inject({ url: '/v1/me', headers: { authorization } })).statusCode).toBe(401);
  } finally {
    Date.now = realNow;
  }
});

describe.each([
  ['away', 'store_unavailable'],
  ['fenced', 'store_fenced'],
] as const)('while the event store is %s', (outage, code) => {
  const { app, login } = edge({ routes: [whoAmI], checkSession: async () => outage });

  test('queries go on with a token that has not expired, commands are 503 and say which it is', async () => {
    const { authorization } = await login();
    expect((await app.inject({ url: '/v1/me', headers: { authorization } })).statusCode).toBe(200);
    const response = await app.inject({ method: 'POST', url: '/v1/me', headers: { authorization } });
    expect(response.statusCode).toBe(503);
    expect(response.headers['retry-after']).toBe('1');
    expect(response.json()).toMatchObject({ code });
  });
});

describe('a session', () => {
  test('that can not be loaded is a fault, and lets nobody in, unless the store is out', async () => {
    const { createSessionCheck } = await import('../../src/access/sessions.ts');
    const { storeOutageOf } = await import('../../src/http/failures.ts');
    const failing = (error: Error) => {
      const load = () => Promise.reject(error);
      return createSessionCheck({ session: load, account: load }, storeOutageOf);
    };
    const caller = { accountId: 'a', sessionId: 's', role: 'user' } as never;
    await expect(failing(new TypeError('bug'))(caller)).rejects.toThrow('bug');
    await expect(failing(new StoreUnavailableError('away'))(caller)).resolves.toBe('away');
    await expect(failing(new StoreFencedError('fenced'))(caller)).resolves.toBe('fenced');
  });
});

describe('a stream ticket', () => {
  test('opens its one path for a minute, as its caller, and nothing else', async () => {
    const { issueTicket } = await import('../../src/http/tickets.ts');
    const { app, login, sessions } = edge({ routes: [whoAmI] });
    const caller = { ...(await login()), role: 'user' as const };
    const at = (path: string, time: number) => encodeURIComponent(issueTicket(hmac, caller, path, time));
    const get = async (url: string) => (await app.inject(url)).statusCode;
    const ticket = at('/v1/live', Date.now());

    expect(await get(`/v1/live?ticket=${ticket}`)).toBe(200);
    expect(await get(`/v1/me?ticket=${ticket}`)).toBe(401);
    expect(await get(`/v1/live?ticket=${at('/v1/other', Date.now())}`)).toBe(401);
    expect(await get(`/v1/live?ticket=${at('/v1/live', Date.now() - TICKET_SECONDS * 1000)}`)).toBe(401);
    expect(await get(`/v1/live?ticket=${ticket}A`)).toBe(401);
    expect(await get('/v1/live?ticket=')).toBe(401);
    expect(await get(`/v1/live?ticket=${ticket}&ticket=${ticket}`)).toBe(401);
    expect(await get('/v1/live')).toBe(401);
    sessions.delete(caller.sessionId);
    expect(await get(`/v1/live?ticket=${ticket}`)).toBe(401);
  });
});
