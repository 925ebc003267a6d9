import { connect, type Socket } from 'node:net';
import { Type } from 'typebox';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { canonicalJson } from '../../src/http/json.ts';
import { Strict } from '../../src/http/schemas.ts';
import type { Routes } from '../../src/http/types.ts';
import { edge } from './harness.ts';

const seen: unknown[] = [];
const routes: Routes = (app) => {
  const body = Strict({
    name: Type.String({ maxLength: 50 }),
    count: Type.Optional(Type.Integer()),
    payload: Type.Optional(Type.Unknown()),
  });
  app.post('/v1/things', { schema: { body } }, async (request) => {
    seen.push(request.body);
    return request.body;
  });
  const querystring = Strict({ limit: Type.Optional(Type.Integer()), q: Type.Optional(Type.String()) });
  app.get('/v1/things', { schema: { querystring } }, async (request) => request.query);
  app.get('/v1/things/:id', async (request) => request.params);
  app.post('/v1/things/:id/done', async (request) => {
    seen.push(request.url);
    return {};
  });
  app.delete('/v1/things/:id', async () => ({ deleted: true }));
};
const { app, lines } = edge({ routes: [routes] });

async function listening() {
  const { app } = edge({ routes: [routes] });
  const url = await app.listen({ host: '127.0.0.1', port: 0 });
  return { app, port: Number(new URL(url).port) };
}

const written = (socket: Socket, text: string) =>
  new Promise<void>((resolve, reject) => socket.write(text, (error) => (error ? reject(error) : resolve())));

const post = (payload: string | Buffer, type = 'application/json') =>
  app.inject({ method: 'POST', url: '/v1/things', payload, headers: { 'content-type': type } });

describe('a body', () => {
  test('that is as it should be arrives as it was sent', async () => {
    const words = { constructor: 'Lotus', prototype: { constructor: {} }, toString: 1 };
    const body = { name: 'Zoë 👩‍👩‍👧 \u2028', count: 3, payload: { deep: [1, null, 'a"b\\c'], words } };
    expect((await post(JSON.stringify(body))).json()).toEqual(body);
    expect((await post(JSON.stringify({ name: 'x' }), 'application/json; charset=utf-8')).statusCode).toBe(
      200,
    );
    expect((await post('{"name":"\\ud83d\\ude00"}')).json()).toEqual({ name: '😀' });
  });

  const nul = String.raw`\u0000`;
  const half = String.raw`\ud83d`;
  const table: [string, string, string | undefined][] = [
    ['with an unknown field', '{"name":"x","extra":1}', '/extra'],
    ['with a field of another type', '{"name":7}', '/name'],
    ['with a number as text, which is not converted', '{"name":"x","count":"7"}', '/count'],
    ['with a fraction for an integer', '{"name":"x","count":1.5}', '/count'],
    ['without a field', '{}', '/name'],
    ['with null for a field', '{"name":null}', '/name'],
    ['with a text that is too long', `{"name":"${'x'.repeat(51)}"}`, '/name'],
    ['that is a list', '[]', ''],
    ['that is null', 'null', ''],
    ['with U+0000', `{"name":"a${nul}b"}`, '/name'],
    ['with U+0000 deep inside', `{"name":"x","payload":{"a/b":[1,{"~":"${nul}"}]}}`, '/payload/a~1b/1/~0'],
    ['with U+0000 in a name', `{"name":"x","payload":{"a${nul}":1}}`, '/payload/a\uFFFD'],
    ['with half of a surrogate pair', `{"name":"${half}"}`, '/name'],
    ['with half of a surrogate pair deep inside', `{"name":"x","payload":["ok","${half} "]}`, '/payload/1'],
    ['with the second half first', String.raw`{"name":"\ude00\ud83d"}`, '/name'],
    ['with __proto__', '{"name":"x","__proto__":{"admin":true}}', '/__proto__'],
    [
      'with __proto__ deep inside',
      '{"name":"x","payload":{"__proto__":{"admin":true}}}',
      '/payload/__proto__',
    ],
    [
      'with __proto__ in disguise',
      String.raw`{"name":"x","payload":{"\u005f_proto__":1}}`,
      '/payload/__proto__',
    ],
    [
      'with constructor',
      '{"name":"x","payload":{"constructor":{"prototype":{"a":1}}}}',
      '/payload/constructor',
    ],
    ['with an integer that no double holds', '{"name":"x","payload":{"n":9007199254740993}}', '/payload/n'],
    [
      'with one deep inside',
      '{"name":"x","payload":["\\"[{",{"a/b":[1,-18446744073709551615]}]}',
      '/payload/1/a~1b/1',
    ],
    ['with a number that is infinite', '{"payload":{"a":{},"n":1e999},"name":"x"}', '/payload/n'],
    ['with one of a thousand digits', `{"name":"x","payload":${'9'.repeat(1000)}}`, '/payload'],
  ];
  test.each(table)('%s is refused: 400, and where', async (_name, payload, pointer) => {
    seen.length = 0;
    const response = await post(payload);
    expect(response.statusCode).toBe(400);
    expect(response.headers['content-type']).toContain('application/problem+json');
    const problem = response.json();
    expect(problem).toMatchObject({
      type: '/problems/invalid_request',
      status: 400,
      code: 'invalid_request',
    });
    expect(problem.instance).toMatch(/^urn:uuid:[0-9a-f-]{36}$/);
    expect(problem.errors.map((error: { pointer: string }) => error.pointer)).toContain(pointer);
    expect(seen).toEqual([]);
  });

  test.each([
    '9007199254740991',
    '-9007199254740992',
    '12345678901234567000',
    '1000000000000000000000',
    '1e21',
    '1.7976931348623157e308',
    '0.12345678901234567890',
    '5e-324',
    '"9007199254740993, 1e999"',
  ])('with %s is taken as it is', async (number) => {
    const response = await post(`{"name":"x","payload":{"a":"\\\\","n":${number}}}`);
    expect(response.statusCode).toBe(200);
    expect(response.json().payload.n).toBe(JSON.parse(number));
  });

  test.each([
    ['broken', '{"name":'],
    ['empty', ''],
    ['with a comma too many', '{"name":"x",}'],
    ['with a byte order mark', '\uFEFF{"name":"x"}'],
    ['that holds U+0000 as a byte', '{"name":"\0"}'],
  ])('of JSON that is %s is refused: 400, without quoting it', async (_name, payload) => {
    const response = await post(payload);
    expect(response.statusCode).toBe(400);
    expect(response.json()).toMatchObject({ code: 'malformed_json' });
  });

  test('that is not UTF-8 is refused: 400', async () => {
    const response = await post(Buffer.from([...Buffer.from('{"name":"'), 0xed, 0xa0, 0x80, 0x22, 0x7d]));
    expect(response.json()).toMatchObject({ status: 400, code: 'malformed_json' });
  });

  test('with a password in broken JSON gives nothing of it away', async () => {
    const response = await post('{"password":hunter2hunter2}');
    expect(response.statusCode).toBe(400);
    expect(response.body).not.toContain('hunter2');
    expect(lines.join()).not.toContain('hunter2');
  });

  test('of 2 MiB is refused: 413', async () => {
    const response = await post(JSON.stringify({ name: 'x'.repeat(2 * 1024 * 1024) }));
    expect(response.statusCode).toBe(413);
    expect(response.json()).toMatchObject({ code: 'body_too_large' });
  });

  test('of 20 MiB is heard out by a client that sends all of it before it reads: 413, and the connection goes on', async () => {
    const { app, port } = await listening();
    const socket = connect(port, '127.0.0.1');
    onTestFinished(async () => {
      socket.destroy();
      await app.close();
    });
    let answers = '';
    socket.on('data', (bytes) => {
      answers += bytes;
    });
    const head = 'POST /v1/things HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n';
    const mebibyte = 'x'.repeat(1_048_576);
    for (const chunked of [false, true]) {
      answers = '';
      socket.write(
        `${head}${chunked ? 'Transfer-Encoding: chunked' : `Content-Length: ${20 * 1_048_576}`}\r\n\r\n`,
      );
      for (let sent = 0; sent < 20; sent++) {
        await written(socket, chunked ? `100000\r\n${mebibyte}\r\n` : mebibyte);
      }
      if (chunked) await written(socket, '0\r\n\r\n');
      await vi.waitFor(() => expect(answers).toContain('body_too_large'), 10_000);
      await written(socket, `${head}Content-Length: 12\r\n\r\n{"name":"y"}`);
      await vi.waitFor(() => expect(answers).toContain('200 OK'), 10_000);
    }
  });

  test.each([
    'text/plain',
    'application/xml',
    'multipart/form-data; boundary=x',
    'application/jsonx',
    'nonsense',
  ])('of type %s is refused: 415', async (type) => {
    const response = await post('{"name":"x"}', type);
    expect(response.statusCode).toBe(415);
    expect(response.json()).toMatchObject({ code: 'unsupported_media_type' });
  });

  test.each([
    [{ 'content-encoding': 'gzip' }, 'without Content-Encoding'],
    [{ 'content-type': 'application/json; charset=utf-16' }, 'in UTF-8'],
  ])('of bytes that are no JSON as they come is refused: 415 (%o)', async (headers, detail) => {
    const response = await app.inject({
      method: 'POST',
      url: '/v1/things',
      headers: { 'content-type': 'application/json', ...headers },
      payload: '{"name":"x"}',
    });
    expect(response.statusCode).toBe(415);
    expect(response.json()).toMatchObject({ detail: expect.stringContaining(detail) });
  });

  test('is read where its charset and its encoding are only said', async () => {
    const headers = { 'content-type': 'application/json; charset="UTF-8"', 'content-encoding': 'identity' };
    const payload = '{"name":"x"}';
    expect((await app.inject({ method: 'POST', url: '/v1/things', headers, payload })).statusCode).toBe(200);
  });

  test('nested a hundred thousand deep is refused without harm', async () => {
    const deep = `${'['.repeat(100_000)}"\\u0000"${']'.repeat(100_000)}`;
    expect((await post(`{"name":"x","payload":${deep}}`)).statusCode).toBe(400);
  });

  test('with ten thousand unknown fields is told of a few of them', async () => {
    const many = Object.fromEntries(Array.from({ length: 10_000 }, (_, i) => [`field${i}`, i]));
    const response = await post(JSON.stringify(many));
    expect(response.statusCode).toBe(400);
    expect(response.json().errors.length).toBeLessThanOrEqual(20);
  });

  test('is not missed on a DELETE that announces JSON', async () => {
    const headers = { 'content-type': 'application/json' };
    const response = await app.inject({ method: 'DELETE', url: '/v1/things/1', headers });
    expect(response.statusCode).toBe(200);
  });
});

describe('a URL', () => {
  const get = (url: string) => app.inject(url);

  test('has its query converted, and refused where it is not what it should be', async () => {
    expect((await get('/v1/things?limit=7')).json()).toEqual({ limit: 7 });
    for (const url of ['?limit=x', '?limit=1.5', '?limit=1&limit=2', '?unknown=1']) {
      const response = await get(`/v1/things${url}`);
      expect(response.statusCode).toBe(400);
      expect(response.json().errors[0].parameter).toBe(url.slice(1).split('=')[0]);
    }
  });

  test.each(['/v1/things?q=%00', '/v1/things?q%00=1', '/v1/things/%00'])(
    'with U+0000 is refused: %s',
    async (url) => {
      const response = await get(url);
      expect(response.statusCode).toBe(400);
      expect(response.json()).toMatchObject({
        code: 'invalid_request',
        errors: [{ detail: 'holds U+0000' }],
      });
    },
  );

  test.each(['/%', '/v1/things/%ZZ', '/v1/things/%c0%af'])(
    'that is malformed is refused: %s',
    async (url) => {
      const response = await get(url);
      expect(response.statusCode).toBe(400);
      expect(response.json()).toMatchObject({ code: 'malformed_url' });
    },
  );

  test('that leads nowhere is a problem, too', async () => {
    const response = await get('/v1/nothing');
    expect(response.statusCode).toBe(404);
    expect(response.json()).toMatchObject({ code: 'not_found', type: '/problems/not_found' });
  });

  test('that leads nowhere is said so whatever the body, the method or the length of an id', async () => {
    const headers = { 'content-type': 'application/json' };
    const broken = await app.inject({ method: 'POST', url: '/v1/nothing', headers, payload: '{' });
    expect(broken.statusCode).toBe(404);
    const query = await app.inject({ method: 'QUERY' as 'GET', url: '/v1/nothing' });
    expect(query.statusCode).toBe(404);
    const long = await get(`/v1/things/${'x'.repeat(501)}`);
    expect(long.statusCode).toBe(404);
    expect(long.json()).toMatchObject({ code: 'not_found' });
  });

  test.each(['OPTIONS', 'TRACE', 'PROPFIND', 'QUERY', 'MKCOL', 'M-SEARCH'])(
    'asked by a method that nothing takes (%s) says which it takes',
    async (method) => {
      const response = await app.inject({ method: method as 'GET', url: '/v1/things' });
      expect(response.statusCode).toBe(405);
      expect(response.headers.allow).toBe('GET, HEAD, POST');
      expect(response.json()).toMatchObject({ code: 'method_not_allowed' });
      const docs = await app.inject({ method: method as 'GET', url: '/docs/' });
      expect(docs.statusCode).toBe(405);
    },
  );

  test('with another method is told which it takes', async () => {
    const response = await app.inject({ method: 'PUT', url: '/v1/things', payload: 'x' });
    expect(response.statusCode).toBe(405);
    expect(response.headers.allow).toBe('GET, HEAD, POST');
    expect(response.json()).toMatchObject({ code: 'method_not_allowed' });
    expect((await app.inject({ method: 'OPTIONS', url: '/v1/things/7' })).headers.allow).toBe(
      'DELETE, GET, HEAD',
    );
  });
});

describe('what a route does not ask for', () => {
  test.each([
    ['POST', '/v1/things?dryRun=true', '{"name":"x"}', { parameter: 'dryRun' }],
    ['POST', '/v1/things/1/done?dryRun=true', undefined, { parameter: 'dryRun' }],
    ['POST', '/v1/things/1/done', '{"a/b":1}', { pointer: '/a~1b' }],
    ['DELETE', '/v1/things/1?dryRun=true', undefined, { parameter: 'dryRun' }],
    ['DELETE', '/v1/things/1', '{"dryRun":true}', { pointer: '/dryRun' }],
    ['GET', '/v1/things/1?x&x', undefined, { parameter: 'x' }],
  ] as const)('is refused, and nothing done: %s %s %s', async (method, url, payload, error) => {
    seen.length = 0;
    const headers = payload === undefined ? {} : { 'content-type': 'application/json' };
    const response = await app.inject({ method, url, headers, ...(payload ? { payload } : {}) });
    expect(response.statusCode).toBe(400);
    expect(response.json().errors).toEqual([{ ...error, detail: 'is not known here' }]);
    expect(seen).toEqual([]);
  });

  test('is not missed, and an empty object is nothing', async () => {
    const headers = { 'content-type': 'application/json' };
    for (const payload of ['{}', 'null']) {
      const url = '/v1/things/1/done';
      expect((await app.inject({ method: 'POST', url, headers, payload })).statusCode).toBe(200);
    }
    expect((await app.inject({ method: 'POST', url: '/v1/things/1/done' })).statusCode).toBe(200);
    // As clients send it that announce JSON with every request.
    const empty = { method: 'POST', url: '/v1/things/1/done', headers, payload: '' } as const;
    expect((await app.inject(empty)).statusCode).toBe(200);
  });
});

test('the same JSON has one canonical text, whatever the order of its names', () => {
  expect(canonicalJson({ b: [{ z: 1, a: 2 }], a: null })).toBe(
    canonicalJson({ a: null, b: [{ a: 2, z: 1 }] }),
  );
  expect(canonicalJson({ a: [1, 2] })).not.toBe(canonicalJson({ a: [2, 1] }));
  expect(canonicalJson(undefined)).toBe('');
});
