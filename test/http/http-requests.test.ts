import type { Static } from 'typebox';
import { describe, expect, test } from 'vitest';
import { echoJob } from '../../src/consumers/echo.ts';
import { emailsBy } from '../../src/domain/emails.ts';
import { httpRequestsTo } from '../../src/domain/http-requests.ts';
import { createJobTypes } from '../../src/domain/job-types.ts';
import type { JobEnqueued } from '../../src/domain/jobs/events.ts';
import { done, everyRoute, jobId } from './routes.ts';

function jobs(overrides: Parameters<typeof everyRoute>[0] = {}) {
  const wanted: Static<typeof JobEnqueued>[] = [];
  const { app, login } = everyRoute({
    enqueueJob: async (_context, input) => {
      wanted.push(input);
      return done({ id: jobId, version: 1, status: 'queued' });
    },
    ...overrides,
  });
  return {
    wanted,
    async post(job: unknown) {
      const { authorization } = await login();
      const headers = { authorization, 'content-type': 'application/json' };
      return app.inject({ method: 'POST', url: '/v1/jobs', headers, payload: JSON.stringify(job) });
    },
  };
}

const url = 'https://hooks.example.com/a';
const request = (payload: unknown) => ({ type: 'http.request', payload });
const echo = { type: 'echo', payload: {} };

describe('A request to a destination', () => {
  test('is taken where the installation allows it, as a callback, too', async () => {
    const { post, wanted } = jobs();
    const payload = { url, method: 'PUT', headers: { 'x-own': 'a' }, body: [1], timeoutSeconds: 5 };
    expect((await post(request(payload))).statusCode).toBe(202);
    expect((await post({ ...echo, callbackUrl: url })).statusCode).toBe(202);
    expect(wanted).toMatchObject([
      { queue: 'webhooks', payload },
      { type: 'echo', callbackUrl: url },
    ]);
  });

  test.each([
    [request({ url: 'https://other.example.com/' }), '/payload/url'],
    [request({ url: 'http://hooks.example.com/' }), '/payload/url'],
    [request({ url: 'nowhere' }), '/payload/url'],
    [request({}), '/payload/url'],
    [request({ url, method: 'CONNECT' }), '/payload/method'],
    [request({ url, method: 'GET', body: {} }), '/payload/body'],
    [request({ url, headers: { Host: 'a' } }), '/payload/headers/Host'],
    [request({ url, headers: { 'Transfer-Encoding': 'chunked' } }), '/payload/headers/Transfer-Encoding'],
    [request({ url, headers: { 'Webhook-Signature': 'v1,a' } }), '/payload/headers/Webhook-Signature'],
    [request({ url, headers: { a: 'b\r\nc: d' } }), '/payload/headers/a'],
    [request({ url, headers: { 'a b': 'c' } }), '/payload/headers/a b'],
    [request({ url, timeoutSeconds: 61 }), '/payload/timeoutSeconds'],
    [request({ url, follow: true }), '/payload/follow'],
    [{ ...echo, callbackUrl: 'https://other.example.com/' }, '/callbackUrl'],
    [{ ...echo, callbackUrl: `${url}?${'x'.repeat(2048)}` }, '/callbackUrl'],
    [{ ...echo, callbackUrl: '' }, '/callbackUrl'],
  ])('is refused as %j, with a pointer there', async (body, pointer) => {
    const { post, wanted } = jobs();
    const response = await post(body);
    expect(response.statusCode).toBe(400);
    expect(response.json().errors.map((error: { pointer: string }) => error.pointer)).toContain(pointer);
    expect(wanted).toEqual([]);
  });

  test('is refused for one job of a batch, and keeps back none of the others', async () => {
    const { app, login } = everyRoute();
    const { authorization } = await login();
    const jobsOfBatch = [
      { ...echo, callbackUrl: 'https://other.example.com/' },
      { ...echo, callbackUrl: url },
    ];
    const response = await app.inject({
      method: 'POST',
      url: '/v1/jobs/batch',
      headers: { authorization, 'content-type': 'application/json' },
      payload: JSON.stringify({ jobs: jobsOfBatch }),
    });
    expect(response.json().items).toMatchObject([
      { status: 400, error: { errors: [{ pointer: '/jobs/0/callbackUrl' }] } },
      { status: 202 },
    ]);
  });

  test('is refused as an email where the installation sends none: 403', async () => {
    const { post, wanted } = jobs({
      jobTypes: createJobTypes([emailsBy({ from: undefined, senders: [], recipients: ['*'] })]),
    });
    const response = await post({
      type: 'email.send',
      payload: { to: ['ada@example.org'], subject: 'a', text: 'b' },
    });
    expect(response.statusCode).toBe(403);
    expect(response.json().detail).toBe('This installation sends no emails.');
    expect(wanted).toEqual([]);
  });

  test('is refused in an installation that allows none: 403, and 400 as a callback', async () => {
    const { post, wanted } = jobs({ jobTypes: createJobTypes([httpRequestsTo([]), echoJob]) });
    const refused = await post(request({ url }));
    expect(refused.statusCode).toBe(403);
    expect(refused.json().detail).toBe('This installation allows no destinations for requests.');
    const callback = await post({ ...echo, callbackUrl: url });
    expect(callback.statusCode).toBe(400);
    expect(callback.json().errors).toMatchObject([{ pointer: '/callbackUrl' }]);
    expect(wanted).toEqual([]);
  });
});

test('Each account has a webhook secret of its own, always the same', async () => {
  const { app, login } = everyRoute();
  const secrets = await Promise.all(
    [await login(), await login()].flatMap(({ authorization }) =>
      [1, 2].map(async () => {
        const response = await app.inject({ url: '/v1/webhooks/secret', headers: { authorization } });
        expect(response.headers['cache-control']).toBe('no-store');
        return response.json().secret;
      }),
    ),
  );
  expect(secrets[0]).toMatch(/^whsec_[A-Za-z0-9+/]{43}=$/);
  expect(secrets[0]).toBe(secrets[1]);
  expect(secrets[2]).toBe(secrets[3]);
  expect(secrets[0]).not.toBe(secrets[2]);
});
