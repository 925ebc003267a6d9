import { expect, test } from 'vitest';
import { everyRoute } from './routes.ts';

type Json = { [name: string]: Json } | Json[] | string | number | boolean | null;

async function readDocument(): Promise<Record<string, Json>> {
  const response = await everyRoute().app.inject('/openapi.json');
  expect(response.statusCode).toBe(200);
  return response.json();
}

test('the document names every route of this API, as docs and clients know them', async () => {
  const { paths } = await readDocument();
  const operations = Object.entries(paths ?? {}).flatMap(([path, item]) =>
    Object.keys(item ?? {}).map((method) => `${method} ${path}`),
  );
  expect(operations.filter((operation) => !operation.startsWith('head ')).sort()).toEqual([
    'delete /v1/sessions/{id}',
    'get /.well-known/jwks.json',
    'get /asyncapi.json',
    'get /livez',
    'get /openapi.json',
    'get /problems/{code}',
    'get /readyz',
    'get /v1/accounts/me',
    'get /v1/blobs/{key}',
    'get /v1/exports/{id}',
    'get /v1/exports/{id}/download',
    'get /v1/exports/{id}/progress',
    'get /v1/jobs',
    'get /v1/jobs/{id}',
    'get /v1/sessions/{id}',
    'post /v1/accounts',
    'post /v1/exports',
    'post /v1/sessions',
    'post /v1/sessions/refresh',
    'post /v1/stream-tickets',
  ]);
});
