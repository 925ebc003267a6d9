import { once } from 'node:events';
import { Agent, request } from 'node:http';
import { connect } from 'node:net';
import { expect, test } from 'vitest';
import type { Routes } from '../../src/http/types.ts';
import { edge } from './harness.ts';

function slowly() {
  const { promise: begun, resolve: begin } = Promise.withResolvers<void>();
  const { promise: ended, resolve: end } = Promise.withResolvers<void>();
  const routes: Routes = (app) => {
    app.get('/slow', async () => {
      begin();
      await ended;
      return { done: true };
    });
    app.get('/fast', async () => ({ done: true }));
    app.get('/livez', { config: { probe: 'live' } }, async () => ({ ok: true }));
    app.get('/readyz', { config: { probe: 'ready' } }, async () => ({ ok: true }));
  };
  return { begun, end, routes };
}

test('a server that stops finishes what it has begun, turns newcomers away, and leaves no connection open', async () => {
  const { begun, end, routes } = slowly();
  const { app } = edge({ routes: [routes] });
  const base = await app.listen({ port: 0, host: '127.0.0.1' });
  const idle = connect(Number(new URL(base).port), '127.0.0.1');
  await once(idle, 'connect');

  const slow = fetch(`${base}/slow`);
  await begun;
  let closed = false;
  const closing = app.close().then(() => {
    closed = true;
  });
  await expect.poll(async () => (await fetch(`${base}/fast`)).status).toBe(503);
  const refused = await fetch(`${base}/fast`);
  expect(await refused.json()).toMatchObject({ code: 'shutting_down' });
  expect(refused.headers.get('retry-after')).toBe('1');
  expect(refused.headers.get('connection')).toBe('close');
  expect((await fetch(`${base}/readyz`)).status).toBe(503);
  expect((await fetch(`${base}/livez`)).status).toBe(200);
  expect(closed).toBe(false);

  end();
  expect(await (await slow).json()).toEqual({ done: true });
  await closing;
  await expect(fetch(`${base}/fast`)).rejects.toThrow();
  if (!idle.closed) await once(idle, 'close');
});

test('a connection that stays open is told to close, and one more request over it is answered, not cut', async () => {
  const { begun, end, routes } = slowly();
  const { app } = edge({ routes: [routes] });
  const base = await app.listen({ port: 0, host: '127.0.0.1' });
  const open = await answeredOnce(base);
  const slow = fetch(`${base}/slow`);
  await begun;
  const closing = app.close();
  await expect.poll(async () => (await fetch(`${base}/fast`)).status).toBe(503);
  end();
  expect((await slow).headers.get('connection')).toBe('close');
  // Nobody is let in any more, but who is in is answered.
  await expect.poll(() => fetch(base).catch((error: Error) => String(error.cause))).toMatch('ECONNREFUSED');
  open.socket.write('GET /fast HTTP/1.1\r\nHost: x\r\n\r\n');
  await once(open.socket, 'close');
  expect(open.text()).toMatch(/HTTP\/1\.1 503 .*connection: close.*shutting_down/is);
  await closing;
});

/** A connection that has had one answer and is kept alive. */
async function answeredOnce(base: string) {
  const socket = connect(Number(new URL(base).port), '127.0.0.1');
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  socket.write('GET /fast HTTP/1.1\r\nHost: x\r\n\r\n');
  await expect.poll(() => text).toContain('"done":true');
  return { socket, text: () => text };
}

test('what takes longer than the grace is cut', async () => {
  const { begun, routes } = slowly();
  const { app } = edge({ routes: [routes], settings: { drainMs: 50 } });
  const base = await app.listen({ port: 0, host: '127.0.0.1' });
  const slow = fetch(`${base}/slow`);
  await begun;
  await app.close();
  await expect(slow).rejects.toThrow();
});

test('a client that left does not hold the stop up', async () => {
  const { begun, routes } = slowly();
  const { app } = edge({ routes: [routes], settings: { drainMs: 20_000 } });
  const base = await app.listen({ port: 0, host: '127.0.0.1' });
  const controller = new AbortController();
  const slow = fetch(`${base}/slow`, { signal: controller.signal }).catch(() => undefined);
  await begun;
  controller.abort();
  await slow;
  const start = performance.now();
  await app.close();
  expect(performance.now() - start).toBeLessThan(5000);
});

test('what is not HTTP is answered with a problem, and the connection closed', async () => {
  const { app } = edge();
  const base = await app.listen({ port: 0, host: '127.0.0.1' });
  const socket = connect(Number(new URL(base).port), '127.0.0.1');
  socket.write('NONSENSE\r\n\r\n');
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  await once(socket, 'close');
  expect(text).toMatch(/^HTTP\/1\.1 400 Bad Request\r\nContent-Type: application\/problem\+json\r\n/);
  expect(JSON.parse(text.split('\r\n\r\n')[1] ?? '')).toMatchObject({ status: 400, code: 'invalid_request' });
  await app.close();
});

test('a request that names no host is answered with a problem, too, unless it is of HTTP/1.0', async () => {
  const { app } = edge({ routes: [(scope) => scope.get('/things', async () => ({}))] });
  const base = await app.listen({ port: 0, host: '127.0.0.1' });
  const ask = async (version: string) => {
    const socket = connect(Number(new URL(base).port), '127.0.0.1');
    socket.write(`GET /things HTTP/${version}\r\nConnection: close\r\n\r\n`);
    let text = '';
    socket.on('data', (chunk) => {
      text += chunk;
    });
    await once(socket, 'close');
    return text;
  };
  expect(await ask('1.0')).toMatch(/^HTTP\/1\.1 200 /);
  const refused = await ask('1.1');
  expect(refused).toMatch(/^HTTP\/1\.1 400 /);
  expect(refused).toMatch(/^content-type: application\/problem\+json/im);
  await app.close();
});

test.each([
  ['header fields', 'x: '],
  ['body', 'content-type: application/json\r\ncontent-length: 9\r\n\r\n{'],
])('a request whose %s does not come is told so as soon as its time is over', async (_name, part) => {
  const requestTimeoutMs = 500;
  const routes: Routes[] = [(scope) => scope.post('/things', async () => ({}))];
  const { app } = edge({ settings: { requestTimeoutMs }, routes });
  const base = await app.listen({ port: 0, host: '127.0.0.1' });
  const begun = performance.now();
  const socket = connect(Number(new URL(base).port), '127.0.0.1');
  socket.write(`POST /things HTTP/1.1\r\nhost: x\r\n${part}`);
  const [answer] = await once(socket, 'data');
  expect(performance.now() - begun).toBeLessThan(4 * requestTimeoutMs);
  expect(String(answer)).toMatch(/^HTTP\/1\.1 408 /);
  expect(String(answer)).toContain('"code":"request_timeout"');
  await app.close();
});

test('an upload that breaks off is not taken for a database that is away', async () => {
  const { app, lines } = edge({ routes: [(scope) => scope.post('/things', async () => ({}))] });
  const answered = Promise.withResolvers<number>();
  app.addHook('onSend', (_request, reply, _payload, done) => {
    answered.resolve(reply.statusCode);
    done();
  });
  const base = await app.listen({ port: 0, host: '127.0.0.1' });
  const socket = connect(Number(new URL(base).port), '127.0.0.1');
  const head = 'host: x\r\ncontent-type: application/json\r\ncontent-length: 9\r\nexpect: 100-continue\r\n';
  socket.write(`POST /things HTTP/1.1\r\n${head}\r\n{`);
  await once(socket, 'data');
  socket.destroy();
  expect(await answered.promise).toBe(400);
  expect(lines.join()).not.toContain('read_store_unavailable');
  await app.close();
});

test('header fields that are too large are a problem, too', async () => {
  const { app } = edge();
  const base = await app.listen({ port: 0, host: '127.0.0.1' });
  const response = await fetch(base, { headers: { authorization: 'x'.repeat(20_000) } });
  expect(response.status).toBe(431);
  expect(await response.json()).toMatchObject({ code: 'headers_too_large' });
  await app.close();
});

test('a body of 2 MiB over a real connection is answered 413', async () => {
  const { app } = edge({ routes: [(scope) => scope.post('/things', async () => ({}))] });
  const base = await app.listen({ port: 0, host: '127.0.0.1' });
  const response = await fetch(`${base}/things`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name: 'x'.repeat(2 * 1024 * 1024) }),
  });
  expect(response.status).toBe(413);
  expect(await response.json()).toMatchObject({ code: 'body_too_large' });
  const chunked = await new Promise<number | undefined>((resolve, reject) => {
    const sending = request(`${base}/things`, {
      method: 'POST',
      agent: new Agent(),
      headers: { 'content-type': 'application/json' },
    });
    sending.on('response', (answer) => resolve(answer.resume().statusCode)).on('error', reject);
    for (let i = 0; i < 32; i++) sending.write('x'.repeat(65_536));
    sending.end();
  });
  expect(chunked).toBe(413);
  await app.close();
});
