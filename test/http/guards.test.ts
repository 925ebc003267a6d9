import { describe, expect, test } from 'vitest';
import type { LimitPolicy, TakeLimit } from '../../src/access/limits.ts';
import { refuse } from '../../src/domain/decision.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { edge } from './harness.ts';
import { done, everyRoute, sessionId } from './routes.ts';

describe('pages of other origins', () => {
  const origin = 'https://app.example.org';

  test('may call and read our headers, if they are named; errors included', async () => {
    const { app } = everyRoute({ server: { settings: { corsOrigins: [origin] } } });
    const preflight = await app.inject({
      method: 'OPTIONS',
      url: '/v1/exports',
      headers: {
        origin,
        'access-control-request-method': 'POST',
        'access-control-request-headers': 'idempotency-key',
      },
    });
    expect(preflight.statusCode).toBe(204);
    expect(preflight.headers).toMatchObject({
      'access-control-allow-origin': origin,
      'access-control-allow-headers': 'idempotency-key',
      'access-control-allow-methods': expect.stringContaining('POST'),
    });
    const refused = await app.inject({ method: 'POST', url: '/v1/exports', headers: { origin } });
    expect(refused.statusCode).toBe(401);
    expect(refused.headers['access-control-allow-origin']).toBe(origin);
    expect(refused.headers['access-control-expose-headers']).toContain('position');
    const stranger = await app.inject({ url: '/livez', headers: { origin: 'https://elsewhere.example' } });
    expect(stranger.headers['access-control-allow-origin']).toBeUndefined();
  });

  test('may not, if none is named', async () => {
    const { app } = everyRoute();
    const response = await app.inject({ url: '/livez', headers: { origin } });
    expect(response.headers['access-control-allow-origin']).toBeUndefined();
    const preflight = await app.inject({ method: 'OPTIONS', url: '/v1/exports', headers: { origin } });
    expect(preflight.statusCode).toBe(405);
  });
});

describe('limits', () => {
  const login = { email: 'Ada@Example.org', password: 'x'.repeat(12) };

  test('of logging in go by address, and by account and address whatever the letters’ case', async () => {
    const taken: [LimitPolicy, string][] = [];
    const takeLimit: TakeLimit = async (policy, subject, count = 1) => {
      if (count > 0) taken.push([policy, subject]);
      return { policy, allowed: true, remaining: 7, resetSeconds: 3 };
    };
    const { app } = everyRoute({ takeLimit, server: { takeLimit } });
    const log = (email: string) =>
      app.inject({ method: 'POST', url: '/v1/sessions', payload: { ...login, email } });
    const response = await log('Ada@Example.org');
    await log(' ada@example.ORG ');
    expect(response.statusCode).toBe(201);
    expect(taken.map(([policy]) => policy.name)).toEqual([
      'logins',
      'account-logins',
      'logins',
      'account-logins',
    ]);
    expect(taken[0]?.[1]).toBe('127.0.0.1');
    expect(taken[1]?.[1]).toBe(taken[3]?.[1]);
    expect(response.headers).toMatchObject({
      'ratelimit-policy': '"logins";q=60;w=60, "account-logins";q=30;w=900',
      ratelimit: '"logins";r=7;t=3, "account-logins";r=7;t=3',
    });
  });

  test('of logging in are on guesses: whoever gets in has it given back', async () => {
    const left = new Map<string, number>();
    const takeLimit: TakeLimit = async (policy, _subject, count = 1) => {
      left.set(policy.name, (left.get(policy.name) ?? 0) - count);
      return { policy, allowed: true, remaining: 7, resetSeconds: 3 };
    };
    const right = everyRoute({ takeLimit, server: { takeLimit } });
    const payload = { refreshToken: 'x' };
    await right.app.inject({ method: 'POST', url: '/v1/sessions', payload: login });
    await right.app.inject({ method: 'POST', url: '/v1/sessions/refresh', payload });
    expect([...left]).toEqual([
      ['logins', 0],
      ['account-logins', 0],
    ]);
    const refused = async () => ({
      kind: 'refused' as const,
      refusal: refuse('wrong_credentials', 'No.').refusal,
    });
    const wrong = everyRoute({ takeLimit, server: { takeLimit }, login: refused, refreshSession: refused });
    await wrong.app.inject({ method: 'POST', url: '/v1/sessions', payload: login });
    await wrong.app.inject({ method: 'POST', url: '/v1/sessions/refresh', payload });
    expect([...left]).toEqual([
      ['logins', -2],
      ['account-logins', -1],
    ]);
  });

  test('of registering go down faster by answers that tell who is here', async () => {
    let taken = 0;
    const takeLimit: TakeLimit = async (policy, _subject, count = 1) => {
      taken += count;
      return { policy, allowed: true, remaining: 7, resetSeconds: 3 };
    };
    const payload = { ...login, name: 'Ada' };
    const free = everyRoute({ takeLimit, server: { takeLimit } });
    await free.app.inject({ method: 'POST', url: '/v1/accounts', payload });
    expect(taken).toBe(1);
    const registerAccount = async () => ({
      kind: 'refused' as const,
      refusal: refuse('email_taken', 'No.').refusal,
    });
    const full = everyRoute({ takeLimit, server: { takeLimit }, registerAccount });
    const told = await full.app.inject({ method: 'POST', url: '/v1/accounts', payload });
    expect(told.statusCode).toBe(409);
    expect(taken).toBe(6);
  });

  test('of an account that are used up keep its password from being tried', async () => {
    let tried = 0;
    const takeLimit: TakeLimit = async (policy) => ({
      policy,
      allowed: false,
      remaining: 0,
      resetSeconds: 0,
    });
    const { app } = everyRoute({
      takeLimit,
      login: async () => {
        tried++;
        return done({ id: sessionId, version: 1, accountId: 'acc', role: 'user' } as never);
      },
    });
    const response = await app.inject({ method: 'POST', url: '/v1/sessions', payload: login });
    expect(response.statusCode).toBe(429);
    expect(response.headers['retry-after']).toBe('1');
    expect(tried).toBe(0);
  });

  test('that nobody can tell, with Redis away, stop nobody', async () => {
    const { app } = everyRoute();
    const response = await app.inject({ method: 'POST', url: '/v1/sessions', payload: login });
    expect(response.statusCode).toBe(201);
    expect(response.headers.ratelimit).toBeUndefined();
  });

  test('believe a proxy only if told so', async () => {
    const subjects: string[] = [];
    const takeLimit: TakeLimit = async (_policy, subject) => {
      subjects.push(subject);
      return 'unknown';
    };
    for (const trustProxy of [false, true]) {
      const { app } = everyRoute({ server: { takeLimit, settings: { trustProxy } } });
      await app.inject({
        method: 'POST',
        url: '/v1/accounts',
        headers: { 'x-forwarded-for': '203.0.113.9' },
      });
    }
    expect(subjects).toEqual(['127.0.0.1', '203.0.113.9']);
  });
});

describe('logging in', () => {
  test.each([
    ['wrong_credentials', 401],
    ['session_ended', 401],
    ['refresh_token_reused', 401],
    ['email_taken', 409],
  ] as const)('refused as %s is %i, and says how to authenticate where that helps', async (code, status) => {
    const { app } = everyRoute({
      login: async () => ({ kind: 'refused', refusal: { code, detail: 'Because.' } }),
    });
    const payload = { email: 'a@b.org', password: 'x'.repeat(12) };
    const response = await app.inject({ method: 'POST', url: '/v1/sessions', payload });
    expect(response.statusCode).toBe(status);
    expect(response.json()).toMatchObject({ code, detail: 'Because.' });
    expect('www-authenticate' in response.headers).toBe(status === 401);
  });

  test('yields tokens that work, and are kept by nobody on the way', async () => {
    const { app, sessions } = everyRoute();
    const payload = { email: 'a@b.org', password: 'x'.repeat(12) };
    const response = await app.inject({ method: 'POST', url: '/v1/sessions', payload });
    expect(response.statusCode).toBe(201);
    expect(response.headers['cache-control']).toBe('no-store');
    const { accessToken, expiresIn, ...rest } = response.json();
    expect(rest).toMatchObject({ sessionId, refreshToken: 'r', version: 1 });
    expect(expiresIn).toBe(900);
    const [header, claims] = accessToken
      .split('.')
      .slice(0, 2)
      .map((part: string) => JSON.parse(Buffer.from(part, 'base64url').toString()));
    expect(header).toEqual({ alg: 'EdDSA', typ: 'at+jwt', kid: 'new' });
    expect(claims.exp - claims.iat).toBe(900);
    sessions.set(sessionId, {
      phase: 'active',
      accountId: claims.sub,
      refreshHash: '',
      expiresAt: '2999-01-01',
    });
    const me = await app.inject({ url: '/v1/jobs', headers: { authorization: `Bearer ${accessToken}` } });
    expect(me.statusCode).toBe(200);
  });
});

test('registering takes an email, a name and a long password, each within its bounds', async () => {
  const { app } = everyRoute();
  const good = { email: ' Ada@Example.org ', password: 'x'.repeat(12), name: 'Ada' };
  const status = async (change: object) =>
    (await app.inject({ method: 'POST', url: '/v1/accounts', payload: { ...good, ...change } })).statusCode;
  expect(await status({})).toBe(201);
  expect(await status({ password: 'ü'.repeat(128) })).toBe(201);
  expect(await status({ email: 'zoë@müller.example' })).toBe(201);
  for (const wrong of [
    { password: 'x'.repeat(11) },
    { password: 'x'.repeat(129) },
    { email: 'ada' },
    { email: 'ada@localhost' },
    { email: 'a b@example.org' },
    { email: `${'a'.repeat(250)}@example.org` },
    { name: '' },
    { name: 'x'.repeat(201) },
    { name: 'a\nb' },
    { role: 'operator' },
  ]) {
    expect(await status(wrong), JSON.stringify(wrong).slice(0, 50)).toBe(400);
  }
});

test('problems name their trace, and every answer its traceparent', async () => {
  const { startTracing } = await import('../../src/telemetry/start.ts');
  const tracing = startTracing({
    serviceName: 'test',
    role: 'api',
    instanceId: 'test',
    sampleRatio: 1,
  } as never);
  const { app } = edge({ metrics: createMetrics({ node: false }) });
  for (const url of ['/nothing', '/%']) {
    const response = await app.inject(url);
    const [, traceId] =
      /^traceparent;desc="00-([0-9a-f]{32})-/.exec(String(response.headers['server-timing'])) ?? [];
    expect(traceId).toBeDefined();
    expect(response.json().traceId).toBe(traceId);
  }
  await tracing.shutdown();
});
