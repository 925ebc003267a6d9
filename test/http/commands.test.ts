import { describe, expect, test } from 'vitest';
import type { CommandContext, CommandResult } from '../../src/commands/handle.ts';
import { DurabilityNotReachedError } from '../../src/commands/handle.ts';
import {
  MemoryGuardError,
  OutcomeUnknownError,
  StoreFencedError,
  StoreUnavailableError,
} from '../../src/eventstore/types.ts';
import { idempotencyKeyOf } from '../../src/http/commands.ts';
import { done, everyRoute, exportId, jobId } from './routes.ts';

const accepted = { id: exportId, version: 2, jobId, status: 'queued' as const };
const body = { dataset: 'events', format: 'csv' };

/** Asks for an export; `context` is what the command was told of the request. */
function exporting(result: () => Promise<CommandResult<typeof accepted>> = async () => done(accepted)) {
  const contexts: CommandContext[] = [];
  const { app, login } = everyRoute({
    requestExport: (context) => {
      contexts.push(context);
      return result();
    },
  });
  return {
    app,
    login,
    contexts,
    async ask(authorization: string, headers: Record<string, string> = {}, payload: object = body) {
      const response = await app.inject({
        method: 'POST',
        url: '/v1/exports',
        payload,
        headers: { authorization, ...headers },
      });
      return { response, context: contexts.at(-1) };
    },
  };
}

test('a command is answered with where to look, its version, its position and its durability', async () => {
  const { ask, login } = exporting();
  const { authorization, accountId } = await login();
  const { response, context } = await ask(authorization);
  expect(response.statusCode).toBe(202);
  expect(response.json()).toEqual(accepted);
  expect(response.headers).toMatchObject({
    location: `/v1/exports/${exportId}`,
    etag: '"2"',
    position: '3.1.7',
    durability: 'memory',
    'cache-control': 'no-store',
  });
  expect(response.headers['idempotency-replayed']).toBeUndefined();
  expect(context).toEqual({
    actor: accountId,
    owner: accountId,
    correlation: expect.stringMatching(/^[0-9a-f-]{36}$/),
    durability: 'memory',
  });
});

describe('Durability', () => {
  test('asked for is passed on, and answered as it was reached', async () => {
    const { ask, login } = exporting(async () => ({ ...done(accepted), durability: 'ledger' }));
    const { response, context } = await ask((await login()).authorization, { durability: 'ledger' });
    expect(context?.durability).toBe('ledger');
    expect(response.headers.durability).toBe('ledger');
  });

  test.each(['disk', 'Ledger', '', 'memory, ledger'])('%j is refused', async (durability) => {
    const { ask, login, contexts } = exporting();
    const { response } = await ask((await login()).authorization, { durability });
    expect(response.statusCode).toBe(400);
    expect(response.json().errors).toMatchObject([{ parameter: 'Durability' }]);
    expect(contexts).toEqual([]);
  });
});

describe('Idempotency-Key', () => {
  test.each([
    ['"abc"', 'abc'],
    ['"8e03978e-40d5-43e8-bc93-6894a57f9324"', '8e03978e-40d5-43e8-bc93-6894a57f9324'],
    ['8e03978e-40d5-43e8-bc93-6894a57f9324', '8e03978e-40d5-43e8-bc93-6894a57f9324'],
    [String.raw`"a \"b\" \\c"`, String.raw`a "b" \c`],
    [`"${'x'.repeat(255)}"`, 'x'.repeat(255)],
  ])('%j is taken', (header, key) => {
    expect(idempotencyKeyOf(header)).toBe(key);
  });

  test.each([
    '',
    '""',
    '"abc',
    'abc"',
    'a b',
    '"a"b"',
    '"a", "b"',
    String.raw`"a\b"`,
    '"ä"',
    '"a\tb"',
    `"${'x'.repeat(256)}"`,
  ])('%j is refused', (header) => {
    expect(() => idempotencyKeyOf(header)).toThrow('Idempotency-Key');
  });

  test('that is malformed is a 400, and nothing is done', async () => {
    const { ask, login, contexts } = exporting();
    const { response } = await ask((await login()).authorization, { 'idempotency-key': '"a" "b"' });
    expect(response.statusCode).toBe(400);
    expect(response.json().errors).toMatchObject([{ parameter: 'Idempotency-Key' }]);
    expect(contexts).toEqual([]);
  });

  test('belongs to its caller, route and request, and is passed on as hashes only', async () => {
    const { app, ask, login } = exporting();
    const [ada, bob] = [await login(), await login()];
    const of = async (authorization: string, key: string, payload: object = body) => {
      const { context } = await ask(authorization, { 'idempotency-key': key }, payload);
      if (!context?.idempotency) throw new Error('the key was not passed on');
      return context.idempotency;
    };
    const first = await of(ada.authorization, '"k"');
    expect(first.key).toMatch(/^[0-9a-f]{64}$/);
    expect(first.fingerprint).toMatch(/^[0-9a-f]{64}$/);
    expect(await of(ada.authorization, 'k')).toEqual(first);
    expect(await of(ada.authorization, '"k"', { format: 'csv', dataset: 'events' })).toEqual(first);
    const otherBody = await of(ada.authorization, '"k"', { dataset: 'events', format: 'ndjson' });
    expect(otherBody.key).toBe(first.key);
    expect(otherBody.fingerprint).not.toBe(first.fingerprint);
    expect((await of(bob.authorization, '"k"')).key).not.toBe(first.key);
    const otherKey = await of(ada.authorization, '"l"');
    expect(otherKey.key).not.toBe(first.key);
    // Nobody can look for what is in a body who does not know the client's key.
    expect(otherKey.fingerprint).not.toBe(first.fingerprint);
    await app.close();
  });

  test('of one target is none of another, wherever the two may be kept', async () => {
    const keys: (string | undefined)[] = [];
    const { app, login } = everyRoute({
      cancelJob: async (context) => {
        keys.push(context.idempotency?.key);
        return done({ id: jobId, version: 2, status: 'cancelled' as const });
      },
    });
    const { authorization } = await login();
    for (const id of [jobId, `${jobId.slice(0, -1)}0`, jobId]) {
      const headers = { authorization, 'idempotency-key': 'k' };
      await app.inject({ method: 'POST', url: `/v1/jobs/${id}/cancel`, headers });
    }
    expect(keys).toHaveLength(3);
    expect(keys[0]).toBe(keys[2]);
    expect(keys[0]).not.toBe(keys[1]);
  });

  test('that was used before gets the first answer again, and is told so', async () => {
    const { ask, login } = exporting(async () => ({ ...done(accepted), replayed: true }));
    const { response } = await ask((await login()).authorization, { 'idempotency-key': '"k"' });
    expect(response.statusCode).toBe(202);
    expect(response.headers['idempotency-replayed']).toBe('true');
    expect(response.json()).toEqual(accepted);
  });

  test('that was used for another request is refused: 422', async () => {
    const { ask, login } = exporting(async () => ({ kind: 'key_reused' }));
    const { response } = await ask((await login()).authorization, { 'idempotency-key': '"k"' });
    expect(response.statusCode).toBe(422);
    expect(response.json()).toMatchObject({ code: 'idempotency_key_reused' });
  });

  test('does not give tokens a second time: 409, and no token in the answer', async () => {
    const { app } = everyRoute({
      login: async () => ({
        ...done({ id: 'ses-x', version: 1, accountId: 'acc-x', role: 'user' } as never),
        replayed: true,
      }),
    });
    const response = await app.inject({
      method: 'POST',
      url: '/v1/sessions',
      payload: { email: 'a@b.org', password: 'x'.repeat(12) },
      headers: { 'idempotency-key': '"k"' },
    });
    expect(response.statusCode).toBe(409);
    expect(response.json()).toMatchObject({ code: 'already_done' });
    expect(response.body).not.toMatch(/oken"/);
  });
});

describe('an outage', () => {
  const table: [Error, number, string][] = [
    [new StoreUnavailableError('away'), 503, 'store_unavailable'],
    [new StoreFencedError('secret detail'), 503, 'store_fenced'],
    [new MemoryGuardError('full'), 503, 'store_unavailable'],
    [Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }), 503, 'read_store_unavailable'],
    [Object.assign(new Error('terminating'), { code: '57P01' }), 503, 'read_store_unavailable'],
    [new Error('Connection terminated unexpectedly'), 503, 'read_store_unavailable'],
    [new OutcomeUnknownError('lost'), 504, 'outcome_unknown'],
    [new DurabilityNotReachedError('3.1.9', 'ledger'), 504, 'durability_not_reached'],
    [new TypeError('secret detail'), 500, 'internal_error'],
  ];
  test.each(table)('%s is answered %i %s, without internals', async (error, status, code) => {
    const { ask, login } = exporting(() => Promise.reject(error));
    const { response } = await ask((await login()).authorization);
    expect(response.statusCode).toBe(status);
    expect(response.json()).toMatchObject({ status, code });
    expect(response.headers['retry-after']).toBe(status === 503 ? '1' : undefined);
    const stands = code === 'durability_not_reached';
    expect(response.headers.position).toBe(stands ? '3.1.9' : undefined);
    expect(response.headers.durability).toBe(stands ? 'memory' : undefined);
    expect(response.body).not.toContain('secret detail');
  });

  test('that is a bug is found in the log by its instance', async () => {
    const { app, login, lines } = everyRoute({
      requestExport: () => Promise.reject(new TypeError('secret detail')),
    });
    const { authorization } = await login();
    const response = await app.inject({
      method: 'POST',
      url: '/v1/exports',
      payload: body,
      headers: { authorization },
    });
    const line = lines.find((text) => text.includes(response.json().instance));
    expect(line).toContain('secret detail');
  });
});

describe('checks come in their order', () => {
  const limited = {
    policy: { kind: 'window', name: 'registrations', limit: 1, windowSeconds: 60 },
    allowed: false,
    remaining: 0,
    resetSeconds: 9,
  } as const;

  test('who calls → the body → the key → what the command says', async () => {
    const { ask, login } = exporting(async () => ({ kind: 'key_reused' }));
    const { authorization } = await login();
    const wrong = { 'idempotency-key': 'a b', 'content-type': 'text/plain' };
    const status = async (headers: Record<string, string>, payload?: object | string) =>
      (await ask(headers.authorization ?? '', headers, payload as object)).response.statusCode;
    expect(await status({ authorization: 'Bearer x', ...wrong }, 'x')).toBe(401);
    expect(await status({ authorization, ...wrong }, 'x')).toBe(415);
    expect(await status({ authorization, 'idempotency-key': 'a b' }, { wrong: 1 })).toBe(400);
    expect(await status({ authorization, 'idempotency-key': '"k"' })).toBe(422);
  });

  test('how often → the body', async () => {
    const { app } = everyRoute({ server: { takeLimit: async () => limited } });
    const response = await app.inject({
      method: 'POST',
      url: '/v1/accounts',
      payload: 'x',
      headers: { 'content-type': 'text/plain' },
    });
    expect(response.statusCode).toBe(429);
    expect(response.headers).toMatchObject({
      'retry-after': '9',
      'ratelimit-policy': '"registrations";q=300;w=1500',
      ratelimit: '"registrations";r=0;t=9',
    });
    expect(response.json()).toMatchObject({ code: 'rate_limited' });
  });
});
