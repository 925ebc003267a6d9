import type { RequestListener } from 'node:http';
import { createServer } from 'node:net';
import { Webhook } from 'standardwebhooks';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { JobContext } from '../../../src/consumers/define-job.ts';
import { addressCheck } from '../../../src/consumers/http-request/addresses.ts';
import { httpRequestJob } from '../../../src/consumers/http-request/job.ts';
import { parseDestination } from '../../../src/domain/destinations.ts';
import type { HttpRequestPayload, HttpRequestResult } from '../../../src/domain/http-requests.ts';
import { type JobId, streamId } from '../../../src/domain/ids.ts';
import { startReceiver } from '../../support/receiver.ts';
import { quiet, until } from '../support.ts';

const id: JobId = streamId('job', 0, 'a'.repeat(20));
const secret = Buffer.alloc(32, 5);

/** Runs an `http.request` as a worker does. */
async function call(
  payload: HttpRequestPayload,
  settings: { allow?: string[]; allowPrivate?: string[]; signal?: AbortSignal } = {},
): Promise<HttpRequestResult> {
  const { allow = ['http://127.0.0.1:*', 'http://localhost:*'], allowPrivate = ['127.0.0.0/8', '::1/128'] } =
    settings;
  const job = httpRequestJob({
    destinations: allow.flatMap((pattern) => parseDestination(pattern) ?? []),
    allows: addressCheck(allowPrivate),
    secretOf: () => secret,
  });
  const context: JobContext<unknown> = {
    job: { id, type: 'http.request', payload, attempt: 1, enqueuedAt: '2026-11-21T10:00:00Z' },
    signal: settings.signal ?? new AbortController().signal,
    progress: () => {},
    logger: quiet,
    idempotencyKey: id,
  };
  const result = await job.perform(context);
  expect(job.resultError(result)).toBeUndefined();
  return result as HttpRequestResult;
}

describe('An http.request', () => {
  test('sends what it was given, and keeps what was answered', async () => {
    const { url, received } = await startReceiver((_, response) => {
      response.writeHead(201, { 'content-type': 'text/plain', 'x-request-id': 'r1', 'set-cookie': 'a=b' });
      response.end('made');
    });
    const result = await call({
      url: `${url}/hooks?a=1#part`,
      headers: { 'X-Own': 'ä', Authorization: 'Bearer t' },
      body: { hello: ['wörld'] },
    });
    expect(result).toMatchObject({
      status: 201,
      body: 'made',
      bodyTruncated: false,
      headers: { 'content-type': 'text/plain', 'x-request-id': 'r1' },
    });
    expect(result.headers).not.toHaveProperty('set-cookie');
    expect(received).toMatchObject([{ method: 'POST', path: '/hooks?a=1', body: '{"hello":["wörld"]}' }]);
    expect(received[0]?.headers).toMatchObject({
      'content-type': 'application/json',
      authorization: 'Bearer t',
      host: new URL(url).host,
      connection: 'close',
    });
  });

  test('is signed so that the published library of receivers takes it, and no other body or secret', async () => {
    const { url, received } = await startReceiver();
    await call({ url, body: { total: 1 } });
    const [{ headers, body } = { headers: {}, body: '' }] = received;
    const given = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
    expect(given['webhook-id']).toBe(id);
    expect(new Webhook(secret.toString('base64')).verify(body, given)).toEqual({ total: 1 });
    expect(() => new Webhook(secret.toString('base64')).verify('{"total":2}', given)).toThrow();
    expect(() => new Webhook(Buffer.alloc(32, 6).toString('base64')).verify(body, given)).toThrow();
  });

  test('may be a GET without a body, or carry a text', async () => {
    const { url, received } = await startReceiver();
    await call({ url, method: 'GET' });
    await call({ url, method: 'PUT', body: 'plain' });
    expect(received).toMatchObject([
      { method: 'GET', body: '' },
      { method: 'PUT', body: 'plain', headers: { 'content-type': 'text/plain; charset=utf-8' } },
    ]);
    expect(received[0]?.headers).not.toHaveProperty('content-type');
  });

  test.each([408, 425, 429, 500, 502, 503])('is to be tried again after a %i', async (status) => {
    const { url } = await startReceiver((_, response) => response.writeHead(status).end('not now'));
    await expect(call({ url })).rejects.toMatchObject({
      name: 'RetryLaterError',
      message: `the receiver answered ${status}: not now`,
      retryAfterMs: 0,
    });
  });

  test.each([400, 401, 404, 409, 410, 422])('is given up after a %i', async (status) => {
    const { url } = await startReceiver((_, response) => response.writeHead(status).end());
    await expect(call({ url })).rejects.toMatchObject({ name: 'NoRetryError' });
  });

  test('is not tried again before Retry-After', async () => {
    const { url } = await startReceiver((_, response) =>
      response.writeHead(429, { 'retry-after': '17' }).end(),
    );
    await expect(call({ url })).rejects.toMatchObject({ name: 'RetryLaterError', retryAfterMs: 17_000 });
  });

  test('follows no redirect: what it leads to was not checked', async () => {
    const { url, received } = await startReceiver((_, response) =>
      response.writeHead(307, { location: 'http://169.254.169.254/' }).end(),
    );
    await expect(call({ url })).rejects.toMatchObject({
      name: 'NoRetryError',
      message: expect.stringContaining('307'),
    });
    expect(received).toHaveLength(1);
  });

  test('keeps the beginning of a long answer, and hangs up', async () => {
    const endless: RequestListener = (_, response) => {
      const more = () => {
        while (!response.destroyed && response.write('x'.repeat(16_384)));
        response.once('drain', more);
      };
      more();
    };
    const { url, connections } = await startReceiver(endless);
    const { body, bodyTruncated } = await call({ url });
    expect(body).toBe('x'.repeat(32 * 1024));
    expect(bodyTruncated).toBe(true);
    await until(async () => expect(await connections()).toBe(0));
  });

  test('ends after its time, whatever the receiver does', async () => {
    const { url, connections } = await startReceiver((_, response) => void response.write('wait'));
    await expect(call({ url, timeoutSeconds: 1 })).rejects.toThrow('the receiver took longer than 1 s');
    await until(async () => expect(await connections()).toBe(0));
  });

  test('ends when it is cancelled, and hangs up', async () => {
    const stop = new AbortController();
    const { url, connections } = await startReceiver(() => stop.abort(new Error('cancelled')));
    await expect(call({ url }, { signal: stop.signal })).rejects.toThrow('cancelled');
    await until(async () => expect(await connections()).toBe(0));
  });

  test('is tried again, and names no address of ours, where nobody answers', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : 0;
    await new Promise((resolve) => server.close(resolve));
    const failure = await call({ url: `http://localhost:${port}/` }).catch((error: unknown) => error);
    expect(failure).toMatchObject({ name: 'Error', message: expect.stringContaining('ECONNREFUSED') });
    expect(String(failure)).not.toMatch(/127\.0\.0\.1|::1/);
  });

  test('is tried again after an answer that is no HTTP', async () => {
    const server = createServer((socket) => void socket.end('hello\r\n\r\n'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : 0;
    await expect(call({ url: `http://127.0.0.1:${port}/` })).rejects.toMatchObject({ name: 'Error' });
  });

  test('is given up where the name leads to an address of ours, and nothing is sent there', async () => {
    const { url, received } = await startReceiver();
    const { port } = new URL(url);
    for (const host of ['127.0.0.1', '2130706433', 'localhost', '[::ffff:127.0.0.1]']) {
      const to = { url: `http://${host}:${port}/` };
      const allow = ['http://*:*'];
      await expect(call(to, { allow, allowPrivate: [] })).rejects.toMatchObject({
        name: 'NoRetryError',
        message: 'the destination is at an address that requests may not be sent to',
      });
    }
    expect(received).toEqual([]);
  });

  test('is given up where the destination is not allowed any more when it runs', async () => {
    const { url, received } = await startReceiver();
    await expect(call({ url }, { allow: ['api.example.com'] })).rejects.toMatchObject({
      name: 'NoRetryError',
      message: 'url is not among the destinations that this installation allows',
    });
    expect(received).toEqual([]);
  });
});
