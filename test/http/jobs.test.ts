import type { Static } from 'typebox';
import { describe, expect, test } from 'vitest';
import type { Done } from '../../src/commands/handle.ts';
import { DurabilityNotReachedError } from '../../src/commands/handle.ts';
import type { JobAccepted } from '../../src/commands/jobs/requests.ts';
import type { RawEvent } from '../../src/domain/event.ts';
import type { JobEnqueued } from '../../src/domain/jobs/events.ts';
import { StoreUnavailableError } from '../../src/eventstore/types.ts';
import type { jobRoutes } from '../../src/http/jobs/routes.ts';
import type { JobView } from '../../src/projections/jobs/queries.ts';
import { event, owner } from './job-events.ts';
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

  test('takes a job with keys that order it and limit it; the limit is 1 where nobody says another', async () => {
    const { post, wanted } = jobs();
    const keys = { orderingKey: 'order 1', concurrencyKey: 'customer 7' };
    expect((await post({ type: 'echo', payload: {}, ...keys })).response.statusCode).toBe(202);
    expect(wanted).toMatchObject([{ ...keys, concurrencyLimit: 1, priority: 'normal' }]);
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
    [{ type: 'echo', payload: {}, orderingKey: '' }, '/orderingKey'],
    [{ type: 'echo', payload: {}, orderingKey: 'a'.repeat(201) }, '/orderingKey'],
    [{ type: 'echo', payload: {}, orderingKey: 'a', priority: 'normal' }, '/priority'],
    [{ type: 'echo', payload: {}, concurrencyKey: '' }, '/concurrencyKey'],
    [{ type: 'echo', payload: {}, concurrencyKey: 'a', concurrencyLimit: 0 }, '/concurrencyLimit'],
    [{ type: 'echo', payload: {}, concurrencyLimit: 2 }, '/concurrencyLimit'],
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

describe('POST /v1/jobs/batch', () => {
  const echo = { type: 'echo', payload: {} };
  type Context = Parameters<Parameters<typeof jobRoutes>[0]['enqueueInBatch']>[0];

  async function batching(answer?: (n: number) => Promise<Done<JobAccepted>>) {
    const contexts: Context[] = [];
    const { app, login } = everyRoute({
      async enqueueInBatch(context) {
        const n = contexts.push(context);
        return answer
          ? answer(n)
          : { ...done({ id: jobId, version: 1, status: 'queued' as const }), position: `${n % 2}.1.${n}` };
      },
    });
    const { authorization } = await login();
    return {
      contexts,
      post: (payload: unknown, headers: Record<string, string> = {}) =>
        app.inject({
          method: 'POST',
          url: '/v1/jobs/batch',
          headers: { authorization, 'content-type': 'application/json', ...headers },
          payload: JSON.stringify(payload),
        }),
    };
  }

  test('answers for each job by itself: what is wrong with one keeps back none of the others', async () => {
    const { post, contexts } = await batching();
    const response = await post({
      jobs: [echo, { ...echo, payload: 1 }, { type: 'export', payload: {} }, 7, { ...echo, a: 1 }, echo],
    });
    expect(response.statusCode).toBe(207);
    const { items } = response.json();
    expect(items.map(({ status }: { status: number }) => status)).toEqual([202, 400, 403, 400, 400, 202]);
    expect(items[0]).toEqual({ status: 202, id: jobId });
    expect(items[1].error).toMatchObject({
      code: 'invalid_request',
      status: 400,
      errors: [{ pointer: '/jobs/1/payload' }],
    });
    expect(items[3].error.errors).toMatchObject([{ pointer: '/jobs/3' }]);
    expect(items[4].error.errors).toMatchObject([{ pointer: '/jobs/4/a' }]);
    expect(contexts).toHaveLength(2);
  });

  test('names the last event of each partition, and says so when all of it was done before', async () => {
    const { post } = await batching();
    const response = await post({ jobs: [echo, echo, echo, echo, echo] });
    expect(response.headers).toMatchObject({ position: '1.1.5, 0.1.4', durability: 'memory' });
    expect(response.headers['idempotency-replayed']).toBeUndefined();
    const again = await batching(async () => ({
      ...done({ id: jobId, version: 1, status: 'queued' as const }),
      replayed: true,
    }));
    expect((await again.post({ jobs: [echo] })).headers['idempotency-replayed']).toBe('true');
  });

  test('names the events of jobs, too, that did not become as durable as was asked: they stand', async () => {
    const { post } = await batching(async (n) => {
      if (n > 1) throw new DurabilityNotReachedError(`${n % 2}.1.${n}`, 'replicated');
      return { ...done({ id: jobId, version: 1, status: 'queued' as const }), position: '1.1.1' };
    });
    const response = await post({ jobs: [echo, echo, echo] });
    expect(response.json().items).toMatchObject([
      { status: 202 },
      { status: 504, error: { code: 'durability_not_reached' } },
      { status: 504, error: { code: 'durability_not_reached' } },
    ]);
    expect(response.headers.position).toBe('1.1.3, 0.1.2');
  });

  test('covers each job by the key and its index: the same one again has the same claim', async () => {
    const { post, contexts } = await batching();
    const key = { 'idempotency-key': '"k"' };
    await post({ jobs: [echo, echo] }, key);
    await post({ jobs: [echo, { ...echo, payload: { other: 1 } }, echo] }, key);
    const [a, b, a2, b2, c] = contexts.map(({ idempotency }) => idempotency);
    expect(a2).toEqual(a);
    expect(b2?.key).toBe(b?.key);
    expect(b2?.fingerprint).not.toBe(b?.fingerprint);
    expect(new Set([a, b, c].map((claim) => claim?.key)).size).toBe(3);
  });

  test('says that nothing was done when nothing could be: 503', async () => {
    const { post } = await batching(async () => {
      throw new StoreUnavailableError('Redis is away');
    });
    const response = await post({ jobs: [echo, echo] });
    expect(response.statusCode).toBe(503);
    expect(response.headers['retry-after']).toBe('1');
    const half = await batching(async (n) => {
      if (n === 1) throw new StoreUnavailableError('Redis is away');
      return done({ id: jobId, version: 1, status: 'queued' });
    });
    const statuses = (await half.post({ jobs: [echo, echo] })).json().items;
    expect(statuses.map(({ status }: { status: number }) => status)).toEqual([503, 202]);
  });

  test.each([
    ['no jobs', { jobs: [] }],
    ['too many', { jobs: Array(1_001).fill(echo) }],
    ['no list', { jobs: echo }],
    ['something else beside', { jobs: [echo], atomic: true }],
  ])('with %s is refused as a whole: 400', async (_what, body) => {
    const { post, contexts } = await batching();
    expect((await post(body)).statusCode).toBe(400);
    expect(contexts).toEqual([]);
  });

  test('takes up to 8 MiB, and a header that is malformed from none of them', async () => {
    const { post, contexts } = await batching();
    const large = { ...echo, payload: { text: 'x'.repeat(250_000) } };
    const jobs = Array(32).fill(large);
    expect((await post({ jobs })).statusCode).toBe(207);
    expect((await post({ jobs: [...jobs, large, large] })).statusCode).toBe(413);
    expect((await post({ jobs: [echo] }, { durability: 'forever' })).statusCode).toBe(400);
    expect(contexts).toHaveLength(32);
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

  test('of what is no job’s id is 404, and takes no fields but a reason', async () => {
    const { post, changed } = jobs();
    expect((await post(undefined, '/v1/jobs/exp-1/cancel')).response.statusCode).toBe(404);
    expect((await post({ force: true }, `/v1/jobs/${jobId}/cancel`)).response.statusCode).toBe(400);
    expect(changed).toEqual([]);
  });
});

describe('GET /v1/jobs/{id}/events', () => {
  async function history(events: () => RawEvent[], role: 'user' | 'operator' = 'user') {
    const { app, login } = everyRoute({
      readHistory: async (_id, { after, limit }) => events().slice(after, after + limit),
    });
    const { authorization, accountId } = await login(role);
    return {
      accountId,
      get: (url = `/v1/jobs/${jobId}/events`) => app.inject({ url, headers: { authorization } }),
    };
  }

  test('is every event, the oldest first, a page at a time, without the stacks of failures', async () => {
    const error = { name: 'Error', message: 'no room', stack: 'at /srv/secret.ts' };
    const { accountId, get } = await history(() => [
      event(1, 'JobEnqueued'),
      event(2, 'JobAttemptFailed', { error }),
      event(3),
    ]);
    owner.accountId = accountId;
    const first = await get(`/v1/jobs/${jobId}/events?limit=2`);
    expect(first.statusCode).toBe(200);
    const { items, nextCursor } = first.json();
    expect(items).toHaveLength(2);
    expect(items[1]).toEqual({
      id: 'e2',
      type: 'JobAttemptFailed',
      version: 2,
      position: '3.1.20',
      time: '2026-11-20T21:47:00.000Z',
      actor: 'system:worker',
      data: { type: 'echo', error: { name: 'Error', message: 'no room' } },
    });
    expect(first.headers.link).toContain('rel="next"');
    const second = await get(`/v1/jobs/${jobId}/events?limit=2&cursor=${nextCursor}`);
    expect(second.json().items.map(({ version }: RawEvent) => version)).toEqual([3]);
    expect(second.json().nextCursor).toBeUndefined();
    const elsewhere = await get(`/v1/jobs/${jobId.slice(0, -1)}x/events?cursor=${nextCursor}`);
    expect(elsewhere.statusCode).toBe(400);
  });

  test('of somebody else’s job is 404, but not to an operator', async () => {
    owner.accountId = 'acc-somebody';
    const events = () => [event(1, 'JobEnqueued')];
    expect((await (await history(events)).get()).statusCode).toBe(404);
    expect((await (await history(events, 'operator')).get()).statusCode).toBe(200);
    expect((await (await history(() => [])).get()).statusCode).toBe(404);
  });
});

describe('GET /v1/jobs/{id} with a look back', () => {
  const then: JobView = {
    id: jobId,
    type: 'echo',
    queue: 'default',
    priority: 'normal',
    status: 'running',
    attempts: 1,
    progress: 0,
    createdAt: '2026-11-20T21:47:00.000Z',
    dueAt: '2026-11-20T21:47:00.000Z',
    version: 2,
  };

  async function lookingBack(found: { job: JobView; owner?: string } | undefined, mine = true) {
    const asked: unknown[] = [];
    const caller = { accountId: '' };
    const { app, login } = everyRoute({
      jobAsOf: async (_id, asOf) => {
        asked.push(asOf);
        return found && { ...found, owner: mine ? caller.accountId : 'acc-somebody' };
      },
    });
    const { authorization, accountId } = await login();
    caller.accountId = accountId;
    const get = (query: string) =>
      app.inject({ url: `/v1/jobs/${jobId}?${query}`, headers: { authorization } });
    return { asked, get };
  }

  test('is the job as that version of it was, or as it was at that time', async () => {
    const { asked, get } = await lookingBack({ job: then });
    const response = await get('version=2');
    expect(response.json()).toEqual(then);
    expect(response.headers.etag).toBe('"2"');
    await get('at=2026-11-20T21:47:00.5Z');
    expect(asked).toEqual([{ version: 2 }, { at: new Date('2026-11-20T21:47:00.500Z') }]);
  });

  test.each(['version=0', 'version=x', 'at=yesterday', 'at=2026-11-20T21:47:00Z&version=1', 'when=1'])(
    '%s is refused: 400',
    async (query) => {
      const { asked, get } = await lookingBack({ job: then });
      expect((await get(query)).statusCode).toBe(400);
      expect(asked).toEqual([]);
    },
  );

  test('where there was none yet, or it is somebody else’s, is 404', async () => {
    expect((await (await lookingBack(undefined)).get('version=9')).statusCode).toBe(404);
    expect((await (await lookingBack({ job: then }, false)).get('version=2')).statusCode).toBe(404);
  });
});
