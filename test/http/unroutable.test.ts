import { once } from 'node:events';
import { connect } from 'node:net';
import { expect, onTestFinished, test } from 'vitest';
import type { Routes } from '../../src/http/types.ts';
import { edge } from './harness.ts';

async function listening(requestTimeoutMs = 30_000) {
  const done: string[] = [];
  const routes: Routes = (scope) => {
    scope.post('/v1/things', async (request) => {
      done.push(request.method);
      return {};
    });
  };
  const { app } = edge({ routes: [routes], settings: { requestTimeoutMs } });
  const base = await app.listen({ port: 0, host: '127.0.0.1' });
  onTestFinished(() => app.close());
  const { port } = new URL(base);
  /** Sends bytes, and answers all that comes until the server closes the connection. */
  const raw = async (text: string) => {
    const socket = connect(Number(port), '127.0.0.1');
    socket.setEncoding('utf8');
    let answer = '';
    socket.on('data', (chunk) => (answer += chunk)).on('error', () => {});
    socket.write(text);
    await once(socket, 'close');
    return answer;
  };
  return { raw, done };
}

function read(answer: string) {
  const [head = '', body = ''] = answer.split('\r\n\r\n');
  const [line = '', ...fields] = head.split('\r\n');
  const headers = new Map(
    fields.map((field): [string, string] => {
      const at = field.indexOf(':');
      return [field.slice(0, at).toLowerCase(), field.slice(at + 1).trim()];
    }),
  );
  return { status: Number(line.split(' ')[1]), headers, body };
}

const json = 'Host: x\r\nContent-Type: application/json\r\nConnection: close\r\n';
const post = `POST /v1/things HTTP/1.1\r\n${json}`;
const odd: [string, string, number, string][] = [
  [
    'an unknown expectation',
    `${post}Expect: a miracle\r\nContent-Length: 2\r\n\r\n{}`,
    417,
    'expectation_failed',
  ],
  [
    'an expectation where nothing is',
    `GET /nothing HTTP/1.1\r\n${json}Expect: x\r\n\r\n`,
    417,
    'expectation_failed',
  ],
  ['a line that is no request', 'NONSENSE\r\n\r\n', 400, 'invalid_request'],
  ['a method that there is not', `BREW /v1/things HTTP/1.1\r\n${json}\r\n`, 400, 'invalid_request'],
  ['a version that there is not', `GET / HTTP/9.9\r\n${json}\r\n`, 400, 'invalid_request'],
  ['the beginning of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400, 'invalid_request'],
  ['a greeting of TLS', '\u0016\u0003\u0001\u0002\u0000\u0001', 400, 'invalid_request'],
  ['a tunnel to elsewhere', `CONNECT example.org:443 HTTP/1.1\r\n${json}\r\n`, 405, 'method_not_allowed'],
  ['a header field without a name', `GET / HTTP/1.1\r\n${json}: x\r\n\r\n`, 400, 'invalid_request'],
  [
    'header fields of 20 KiB',
    `GET / HTTP/1.1\r\n${json}A: ${'x'.repeat(20_480)}\r\n\r\n`,
    431,
    'headers_too_large',
  ],
  ['a path of 20 KiB', `GET /${'x'.repeat(20_480)} HTTP/1.1\r\n${json}\r\n`, 431, 'headers_too_large'],
  ['a length that is no number', `${post}Content-Length: two\r\n\r\n{}`, 400, 'invalid_request'],
  ['a negative length', `${post}Content-Length: -2\r\n\r\n{}`, 400, 'invalid_request'],
  ['two lengths', `${post}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`, 400, 'invalid_request'],
  [
    'a length and chunks',
    `${post}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}`,
    400,
    'invalid_request',
  ],
  [
    'a transfer coding that is not known',
    `${post}Transfer-Encoding: rot13\r\n\r\n{}`,
    400,
    'invalid_request',
  ],
  ['a chunk that is none', `${post}Transfer-Encoding: chunked\r\n\r\nxyz\r\n`, 400, 'invalid_request'],
  [
    'chunks with long extensions',
    `${post}Transfer-Encoding: chunked\r\n\r\n2;${'x'.repeat(20_480)}\r\n{}\r\n0\r\n\r\n`,
    413,
    'body_too_large',
  ],
  ['a path with broken escapes', `GET /v1/%ZZ HTTP/1.1\r\n${json}\r\n`, 400, 'malformed_url'],
  ['a path of another place', `GET http://example.org/nothing HTTP/1.1\r\n${json}\r\n`, 404, 'not_found'],
  ['an asterisk for a path', `OPTIONS * HTTP/1.1\r\n${json}\r\n`, 404, 'not_found'],
  [
    'an upgrade to what is not spoken',
    `GET /nothing HTTP/1.1\r\n${json}Upgrade: websocket\r\n\r\n`,
    404,
    'not_found',
  ],
];

test.each(odd)('%s is answered with a problem, and nothing is done', async (_name, text, status, code) => {
  const { raw, done } = await listening();
  const answer = read(await raw(text));
  expect(answer.status).toBe(status);
  expect(Object.fromEntries(answer.headers)).toMatchObject({
    'content-type': expect.stringMatching(/^application\/problem\+json(; charset=utf-8)?$/),
    'content-length': String(Buffer.byteLength(answer.body)),
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    connection: 'close',
  });
  expect(JSON.parse(answer.body)).toMatchObject({
    type: `/problems/${code}`,
    instance: expect.stringMatching(/^urn:uuid:/),
    ...{ status, code },
  });
  expect(done).toEqual([]);
});

test('the expectation that HTTP knows is met: 100, and then the answer', async () => {
  const { raw, done } = await listening();
  const answer = await raw(`${post}Expect: 100-Continue\r\nContent-Length: 2\r\n\r\n{}`);
  expect(answer).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
  expect(done).toEqual(['POST']);
});
