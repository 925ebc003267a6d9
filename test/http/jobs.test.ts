import type { Static } from 'typebox';
import { describe, expect, test } from 'vitest';
import type { JobEnqueued } from '../../src/domain/jobs.ts';
import { done, everyRoute, jobId } from './routes.ts';

function jobs(role: 'user' | 'operator' = 'user') {
  const wanted: Static<typeof JobEnqueued>[] = [];
  const changed: unknown[] = [];
  const { app, login } = everyRoute({
    enqueueJob: async (_context, input) => {
      wanted.push(input);
      return done({ id: jobId, version: 1, status: 'queued' });
    },
    cancelJob: async (_context, input) => {
      changed.push(input);
      return { kind: 'refused', refusal: { code: 'job_finished', detail: 'It has ended.' } };
    },
  });
  return {
    wanted,
    changed,
    async post(payload: unknown, url = '/v1/jobs') {
      const { authorization, accountId } = await login(role);
      const response = await app.inject({
        method: 'POST',
        url,
        headers: { authorization, ...(payload === undefined ? {} : { 'content-type': 'application/json' }) },
        ...(payload === undefined ? {} : { payload: JSON.stringify(payload) }),
      });
      return { response, accountId };
    },
  };
}

describe('POST /v1/jobs', () => {
  test('takes a job with the settings of its type', async () => {
    const { post, wanted } = jobs();
    const { response } = await post({ type: 'echo', payload: { a: [1] } });
    expect(response.statusCode).toBe(202);
    expect(response.headers).toMatchObject({ location: `/v1/jobs/${jobId}`, etag: '"1"', position: '3.1.7' });
    expect(response.json()).toEqual({ id: jobId, version: 1, status: 'queued' });
    expect(wanted).toEqual([
      {
        type: 'echo',
        payload: { a: [1] },
        queue: 'default',
        priority: 'normal',
        maxAttempts: 3,
        timeoutSeconds: 60,
      },
    ]);
  });

  test('takes a job with settings of its own', async () => {
    const { post, wanted } = jobs();
    const own = {
      queue: 'exports',
      priority: 'high',
      maxAttempts: 1,
      timeoutSeconds: 5,
      runAt: '2027-01-01T00:00:00Z',
    };
    expect((await post({ type: 'echo', payload: {}, ...own })).response.statusCode).toBe(202);
    expect(wanted).toEqual([{ type: 'echo', payload: {}, ...own }]);
  });

  const tenYearsAndADay = new Date(Date.now() + 3654 * 24 * 3_600_000).toISOString();
  test.each([
    [{ type: 'nothing', payload: {} }, '/type'],
    [{ type: 'toString', payload: {} }, '/type'],
    [{ payload: {} }, '/type'],
    [{ type: 'echo' }, '/payload'],
    [{ type: 'echo', payload: 'text' }, '/payload'],
    [{ type: 'echo', payload: [1] }, '/payload'],
    [{ type: 'echo', payload: null }, '/payload'],
    [{ type: 'echo', payload: { a: 'x'.repeat(256 * 1024) } }, '/payload'],
    [{ type: 'echo', payload: {}, queue: 'nowhere' }, '/queue'],
    [{ type: 'echo', payload: {}, priority: 'urgent' }, '/priority'],
    [{ type: 'echo', payload: {}, runAt: 'tomorrow' }, '/runAt'],
    [{ type: 'echo', payload: {}, runAt: tenYearsAndADay }, '/runAt'],
    [{ type: 'echo', payload: {}, maxAttempts: 0 }, '/maxAttempts'],
    [{ type: 'echo', payload: {}, timeoutSeconds: 86_401 }, '/timeoutSeconds'],
    [{ type: 'echo', payload: {}, orderingKey: 'a' }, '/orderingKey'],
  ])('refuses %j, and points there', async (body, pointer) => {
    const { post, wanted } = jobs();
    const { response } = await post(body);
    expect(response.statusCode).toBe(400);
    expect(response.json()).toMatchObject({ code: 'invalid_request' });
    expect(response.json().errors.map((error: { pointer: string }) => error.pointer)).toContain(pointer);
    expect(wanted).toEqual([]);
  });

  test.each(['user', 'operator'] as const)(
    'a type that only its own command enqueues is refused to a %s: 403',
    async (role) => {
      const { post, wanted } = jobs(role);
      const { response } = await post({ type: 'export', payload: { exportId: 'exp-1' } });
      expect(response.statusCode).toBe(403);
      expect(response.json()).toMatchObject({ code: 'forbidden' });
      expect(wanted).toEqual([]);
    },
  );

  test('a body nested deeper than anybody needs is refused: 400', async () => {
    const deep = `${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}`;
    const { app, login } = everyRoute();
    const { authorization } = await login();
    const response = await app.inject({
      method: 'POST',
      url: '/v1/jobs',
      headers: { authorization, 'content-type': 'application/json', 'idempotency-key': 'k' },
      payload: `{"type":"echo","payload":${deep}}`,
    });
    expect(response.statusCode).toBe(400);
  });
});

describe('POST /v1/jobs/{id}/cancel', () => {
  test('asks for the caller’s own job, an operator for anybody’s, and says what is refused', async () => {
    const own = jobs();
    const { response, accountId } = await own.post(undefined, `/v1/jobs/${jobId}/cancel`);
    expect(response.statusCode).toBe(409);
    expect(response.json()).toMatchObject({ code: 'job_finished' });
    expect(own.changed).toEqual([{ jobId, owner: accountId }]);
    const any = jobs('operator');
    await any.post({}, `/v1/jobs/${jobId}/cancel`);
    expect(any.changed).toEqual([{ jobId, owner: undefined }]);
  });

  test('of what is no job’s id is 404, and takes no fields', async () => {
    const { post, changed } = jobs();
    expect((await post(undefined, '/v1/jobs/exp-1/cancel')).response.statusCode).toBe(404);
    expect((await post({ force: true }, `/v1/jobs/${jobId}/cancel`)).response.statusCode).toBe(400);
    expect(changed).toEqual([]);
  });
});
