import fc from 'fast-check';
import { expect, test } from 'vitest';
import { everyRoute, exportId, jobId } from './routes.ts';

// Whatever is sent, the answer is a problem that the sender can act on: never a fault of ours, never a hang.
const { app, login } = everyRoute();

const route = fc.constantFrom<[string, string]>(
  ['POST', '/v1/accounts'],
  ['POST', '/v1/sessions'],
  ['POST', '/v1/sessions/refresh'],
  ['POST', '/v1/exports'],
  ['POST', '/v1/stream-tickets'],
  ['POST', '/v1/jobs'],
  ['POST', '/v1/jobs/batch'],
  ['POST', `/v1/jobs/${jobId}/cancel`],
  ['POST', `/v1/jobs/${jobId}/retry`],
  ['DELETE', '/v1/sessions/current'],
  ['GET', '/v1/jobs'],
  ['GET', `/v1/jobs/${jobId}`],
  ['GET', `/v1/jobs/${jobId}/events`],
  ['GET', `/v1/exports/${exportId}/progress`],
  ['GET', '/v1/blobs/exports/a.gz'],
  ['GET', '/problems/email_taken'],
);
/** Values a little off what is expected are more telling than noise. */
const value = fc.oneof(
  fc.string({ unit: 'binary' }),
  fc.string({ unit: fc.constantFrom('\u0000', '\ud800', '"', '\\', '%', 'a', '\n', '😀') }),
  fc.json(),
  fc.constantFrom(
    'events',
    'csv',
    'echo',
    'export',
    '2027-01-01T00:00:00Z',
    'ada@example.org',
    'x'.repeat(200),
    '-1',
    '1e9',
    '__proto__',
  ),
);
const name = fc.oneof(
  fc.constantFrom(
    'email',
    'password',
    'name',
    'dataset',
    'format',
    'refreshToken',
    'path',
    'jobs',
    'type',
    'payload',
    'runAt',
    'maxAttempts',
    '__proto__',
    'constructor',
  ),
  fc.string(),
);
const body = fc.oneof(
  fc.dictionary(name, fc.oneof(value, fc.jsonValue())).map((object) => JSON.stringify(object)),
  fc.json(),
  fc.string({ unit: 'binary' }),
);
const query = fc.dictionary(
  fc.constantFrom(
    'limit',
    'cursor',
    'status',
    'ticket',
    'lastEventId',
    'sig',
    'expires',
    'from',
    'at',
    'version',
    'x',
  ),
  value,
);
/** What Node's own parser lets through. */
const headerText = fc.string({
  unit: fc.integer({ min: 0x20, max: 0xff }).map((code) => String.fromCharCode(code)),
});
const headers = fc.dictionary(
  fc.constantFrom(
    'idempotency-key',
    'durability',
    'consistent-with',
    'prefer',
    'if-none-match',
    'last-event-id',
    'range',
    'traceparent',
    'authorization',
    'content-type',
  ),
  headerText,
);

test('nothing that can be sent makes the edge fail', async () => {
  const { authorization } = await login();
  await fc.assert(
    fc.asyncProperty(route, body, query, headers, async ([method, path], payload, parameters, more) => {
      const search = new URLSearchParams(
        Object.entries(parameters).map(([key, text]): [string, string] => [key, text.toWellFormed()]),
      );
      const response = await app.inject({
        method: method as 'GET',
        url: `${path}?${search}`,
        headers: { authorization, 'content-type': 'application/json', ...more },
        ...(method === 'GET' ? {} : { payload }),
      });
      expect(response.statusCode, response.body).toBeLessThan(500);
      if (response.statusCode >= 400) {
        expect(response.headers['content-type']).toContain('application/problem+json');
        expect(response.json().status).toBe(response.statusCode);
      }
    }),
    { numRuns: 1500 },
  );
});
