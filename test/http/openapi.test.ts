import { Validator } from '@seriousme/openapi-schema-validator';
import { describe, expect, test } from 'vitest';
import { eventTypes } from '../../src/domain/events.ts';
import { problemTypes } from '../../src/http/problem-types.ts';
import { everyRoute } from './routes.ts';

type Operation = {
  operationId?: string;
  summary?: string;
  parameters?: { $ref?: string; name?: string; in?: string; required?: boolean }[];
  security?: object[];
  requestBody?: object;
  responses: Record<string, { $ref?: string; headers?: object }>;
};
type Document = {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
  components: Record<string, Record<string, unknown>>;
};

const { app } = everyRoute();

async function read(path: string) {
  const response = await app.inject(path);
  expect(response.statusCode).toBe(200);
  return response.json();
}
const operationsOf = ({ paths }: Document) =>
  Object.entries(paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({
      name: `${method} ${path}`,
      method,
      path,
      operation,
    })),
  );

describe('the OpenAPI document', () => {
  test('is valid OpenAPI 3.1', async () => {
    const document = await read('/openapi.json');
    const validator = new Validator();
    const { valid, errors } = await validator.validate(document);
    expect(errors).toBeUndefined();
    expect(valid).toBe(true);
    expect(document.openapi).toBe('3.1.1');
  });

  test('names every route of this API, as docs and clients know them', async () => {
    const operations = operationsOf(await read('/openapi.json')).map(({ name }) => name);
    expect(operations.filter((name) => !name.startsWith('head ')).sort()).toEqual([
      'delete /v1/schedules/{id}',
      'delete /v1/sessions/{id}',
      'get /.well-known/jwks.json',
      'get /asyncapi.json',
      'get /livez',
      'get /openapi.json',
      'get /problems/{code}',
      'get /readyz',
      'get /v1/accounts/me',
      'get /v1/blobs/{key}',
      'get /v1/erasures/{receipt}',
      'get /v1/exports/{id}',
      'get /v1/exports/{id}/download',
      'get /v1/exports/{id}/progress',
      'get /v1/jobs',
      'get /v1/jobs/{id}',
      'get /v1/jobs/{id}/events',
      'get /v1/ops/dead-letters',
      'get /v1/ops/dead-letters/{id}',
      'get /v1/ops/events',
      'get /v1/ops/groups',
      'get /v1/ops/groups/{name}',
      'get /v1/ops/operations',
      'get /v1/ops/overview',
      'get /v1/ops/partitions',
      'get /v1/ops/projections',
      'get /v1/ops/projections/{name}/parked',
      'get /v1/ops/projections/{name}/rebuild',
      'get /v1/ops/queues',
      'get /v1/ops/queues/{name}',
      'get /v1/ops/streams/{id}',
      'get /v1/ops/workers',
      'get /v1/schedules',
      'get /v1/schedules/{id}',
      'get /v1/sessions/{id}',
      'get /v1/webhooks/secret',
      'post /v1/accounts',
      'post /v1/accounts/me/erasure',
      'post /v1/exports',
      'post /v1/jobs',
      'post /v1/jobs/batch',
      'post /v1/jobs/{id}/cancel',
      'post /v1/jobs/{id}/discard',
      'post /v1/jobs/{id}/retry',
      'post /v1/ops/dead-letters/discard',
      'post /v1/ops/dead-letters/redrive',
      'post /v1/ops/groups/{name}/pause',
      'post /v1/ops/groups/{name}/replay',
      'post /v1/ops/groups/{name}/resume',
      'post /v1/ops/projections/{name}/pause',
      'post /v1/ops/projections/{name}/rebuild',
      'post /v1/ops/projections/{name}/rebuild/cancel',
      'post /v1/ops/projections/{name}/resume',
      'post /v1/ops/projections/{name}/verify',
      'post /v1/ops/queues/{name}/pause',
      'post /v1/ops/queues/{name}/resume',
      'post /v1/schedules',
      'post /v1/sessions',
      'post /v1/sessions/refresh',
      'post /v1/stream-tickets',
    ]);
  });

  test('leads nowhere that is not in it', async () => {
    const document = await read('/openapi.json');
    const refs = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(([, ref]) => ref ?? '');
    expect(refs.length).toBeGreaterThan(50);
    for (const ref of new Set(refs)) {
      const found = ref
        .slice(2)
        .split('/')
        .reduce((at: unknown, name) => (at as Record<string, unknown> | undefined)?.[name], document);
      expect(found, ref).toBeDefined();
    }
  });

  test('says for each operation what it is called, what it answers and what may go wrong', async () => {
    const operations = operationsOf(await read('/openapi.json'));
    const ids = operations.map(({ operation }) => operation.operationId);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { name, path, operation } of operations) {
      expect(operation.summary, name).toBeTruthy();
      expect(
        Object.keys(operation.responses).some((status) => status.startsWith('2')),
        name,
      ).toBe(true);
      expect(JSON.stringify(operation.responses), name).not.toContain('Default Response');
      const named = [...path.matchAll(/\{(\w+)\}/g)].map(([, parameter]) => parameter);
      const told = (operation.parameters ?? []).filter((parameter) => parameter.in === 'path');
      expect(
        told.map((parameter) => parameter.name),
        name,
      ).toEqual(named);
    }
  });

  test('knows what the guards ask: credentials, headers, limits', async () => {
    const { paths }: Document = await read('/openapi.json');
    const of = (path: string, method: string) => {
      const operation = paths[path]?.[method];
      if (!operation) throw new Error(`${method} ${path} is not documented`);
      return {
        ...operation,
        refs: (operation.parameters ?? []).map((parameter) => parameter.$ref?.split('/').pop()),
      };
    };
    const create = of('/v1/exports', 'post');
    expect(create.security).toEqual([{ accessToken: [] }]);
    expect(create.refs).toEqual(['IdempotencyKey', 'Durability']);
    expect(Object.keys(create.responses['202']?.headers ?? {})).toEqual(
      expect.arrayContaining(['Location', 'ETag', 'Position', 'Durability', 'Idempotency-Replayed']),
    );
    expect(Object.keys(create.responses)).toEqual(
      expect.arrayContaining(['202', '400', '401', '409', '413', '415', '422', '500', '503', '504']),
    );
    expect(of('/v1/exports/{id}', 'get').refs).toEqual(
      expect.arrayContaining(['ConsistentWith', 'Prefer', 'IfNoneMatch']),
    );
    expect(of('/v1/exports/{id}/progress', 'get').security).toEqual([
      { accessToken: [] },
      { streamTicket: [] },
    ]);
    expect(of('/v1/accounts', 'post').security).toEqual([]);
    expect(Object.keys(of('/v1/accounts', 'post').responses)).toContain('429');
    expect(Object.keys(of('/v1/exports/{id}/download', 'get').responses)).toContain('409');
  });
});

test('the AsyncAPI document has every event, with the schema that validates it', async () => {
  const document = await read('/asyncapi.json');
  expect(document.asyncapi).toBe('3.0.0');
  expect(Object.keys(document.components.messages)).toEqual(Object.keys(eventTypes));
  expect(Object.keys(document.channels.events.messages)).toEqual(Object.keys(eventTypes));
  for (const [type, { data }] of Object.entries(eventTypes)) {
    expect(document.components.schemas[type]).toEqual(JSON.parse(JSON.stringify(data)));
  }
});

describe('the docs page', () => {
  test('needs nothing from elsewhere, and is allowed nothing from elsewhere', async () => {
    const page = await app.inject('/docs');
    expect(page.statusCode).toBe(200);
    expect(page.headers['content-security-policy']).toContain("default-src 'none'");
    const assets = [...page.body.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, asset]) => asset ?? '');
    expect(assets.length).toBeGreaterThan(3);
    for (const asset of assets) {
      expect(asset).toMatch(/^\/docs\//);
      expect((await app.inject(asset)).statusCode, asset).toBe(200);
    }
    expect(page.body).not.toMatch(/<script>(?!<)/);
  });

  test('shows the same document', async () => {
    expect(await read('/docs/json')).toEqual(await read('/openapi.json'));
  });
});

test.each(Object.keys(problemTypes))('the problem %s has a page', async (code) => {
  const page = await app.inject(`/problems/${code}`);
  expect(page.statusCode).toBe(200);
  expect(page.headers['content-type']).toContain('text/html');
  expect(page.body).toContain(code);
});

test('a problem that does not exist has no page', async () => {
  expect((await app.inject('/problems/__proto__')).statusCode).toBe(404);
  expect((await app.inject('/problems/%3Cscript%3E')).body).not.toContain('<script>');
});

describe('health', () => {
  test('is told with a line for each dependency; not ready is 503', async () => {
    const checks = { redis: { ok: true }, postgres: { ok: false, detail: 'connection refused' } };
    const { app: unready } = everyRoute({ ready: async () => ({ ok: false, checks }) });
    const response = await unready.inject('/readyz');
    expect(response.statusCode).toBe(503);
    expect(response.json()).toEqual({ ok: false, checks });
    expect((await unready.inject('/livez')).statusCode).toBe(200);
  });

  test('is told without naming servers, addresses or users', async () => {
    const { app: unready } = everyRoute({
      ready: async () => ({
        ok: false,
        checks: {
          redis: { ok: false, detail: "Redis can't be compared: connect ECONNREFUSED 10.1.2.3:6379" },
          postgres: { ok: false, detail: 'getaddrinfo ENOTFOUND db.internal' },
          other: { ok: false, detail: 'password authentication failed for user "mill"' },
        },
      }),
    });
    const { checks } = (await unready.inject('/readyz')).json();
    expect(checks).toEqual({
      redis: { ok: false, detail: "Redis can't be compared: connect ECONNREFUSED" },
      postgres: { ok: false, detail: 'getaddrinfo ENOTFOUND' },
      other: { ok: false, detail: 'password authentication failed for user "…"' },
    });
  });

  test('that can not be found out is not ready', async () => {
    const { app: broken } = everyRoute({ ready: () => Promise.reject(new Error('secret detail')) });
    const response = await broken.inject('/readyz');
    expect(response.statusCode).toBe(503);
    expect(response.body).not.toContain('secret detail');
  });
});
