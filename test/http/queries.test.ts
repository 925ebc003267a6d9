import { describe, expect, test } from 'vitest';
import type { JobListing, JobView } from '../../src/projections/jobs/queries.ts';
import { NotIncludedError, type Wanted } from '../../src/projections/reading.ts';
import { everyRoute, exportId, jobId, scheduleId } from './routes.ts';

const job: JobView = {
  id: jobId,
  type: 'export',
  queue: 'exports',
  priority: 'normal',
  status: 'failed',
  attempts: 3,
  progress: 40,
  error: { name: 'Error', message: 'no room', stack: 'at /srv/secret/path.ts' },
  createdAt: '2026-11-20T21:47:00.000Z',
  dueAt: '2026-11-20T21:47:00.000Z',
  version: 4,
};

describe('Consistent-With', () => {
  function reading(outcome: NotIncludedError['outcome'] | 'ok' = 'ok') {
    const waits: Wanted[] = [];
    const { app, login } = everyRoute({
      async findJob(_id, _owner, wanted) {
        waits.push(wanted);
        if (outcome !== 'ok') throw new NotIncludedError(outcome, wanted.timeoutMs);
        wanted.onAnswer?.([{ partition: 3, epoch: 1, seq: 9 }]);
        return job;
      },
    });
    return {
      waits,
      async get(headers: Record<string, string>, url = `/v1/jobs/${jobId}`) {
        const { authorization } = await login();
        return app.inject({ url, headers: { authorization, ...headers } });
      },
    };
  }

  test('waits for each position, five seconds unless told otherwise', async () => {
    const { get, waits } = reading();
    const response = await get({ 'consistent-with': '3.1.7, 4.1.2' });
    expect(response.statusCode).toBe(200);
    expect(response.headers['preference-applied']).toBeUndefined();
    expect(waits).toMatchObject([
      {
        positions: [
          { partition: 3, epoch: 1, seq: 7 },
          { partition: 4, epoch: 1, seq: 2 },
        ],
        timeoutMs: 5000,
      },
    ]);
  });

  test.each([
    ['wait=10', 10],
    ['respond-async, wait=2', 2],
    ['wait=999', 30],
    ['wait = 0', 0],
  ])('Prefer: %s is applied and said so', async (prefer, seconds) => {
    const { get, waits } = reading();
    const response = await get({ 'consistent-with': '3.1.7', prefer });
    expect(waits[0]?.timeoutMs).toBe(seconds * 1000);
    expect(response.headers['preference-applied']).toBe(`wait=${seconds}`);
  });

  test('without it nothing is waited for', async () => {
    const { get, waits } = reading();
    const { headers, statusCode } = await get({ prefer: 'wait=1' });
    expect(statusCode).toBe(200);
    expect(headers.position).toBeUndefined();
    expect(waits).toMatchObject([{ positions: [] }]);
  });

  test('is answered with how far the answer is, for the next query', async () => {
    const { headers } = await reading().get({ 'consistent-with': '3.1.7, 4.1.2' });
    expect(headers.position).toBe('3.1.9, 4.1.2');
  });

  test.each(['', 'x', '3.1', '3.1.7,', '3.1.7 4.1.2', '-1.1.1', '3.1.7e1', '99999.1.1'])(
    '%j is refused: 400',
    async (positions) => {
      const response = await reading().get({ 'consistent-with': positions });
      expect(response.statusCode).toBe(400);
      expect(response.json().errors).toMatchObject([{ parameter: 'Consistent-With' }]);
    },
  );

  test.each([
    ['behind', 503, 'read_model_behind'],
    ['lost', 410, 'position_lost'],
    ['parked', 503, 'read_model_parked'],
  ] as const)('a read model that is %s says so: %i %s', async (outcome, status, code) => {
    const response = await reading(outcome).get({ 'consistent-with': '3.1.7' });
    expect(response.statusCode).toBe(status);
    expect(response.json()).toMatchObject({ code });
    expect(response.headers['retry-after']).toBe(status === 503 ? '1' : undefined);
  });

  test('comes after who calls', async () => {
    const { waits, get } = reading();
    expect((await get({ authorization: 'Bearer x', 'consistent-with': 'x' })).statusCode).toBe(401);
    expect(waits).toEqual([]);
  });
});

test('every route that takes Consistent-With hands on what is wanted to what it reads', async () => {
  const lost = async (...args: unknown[]) => {
    const wanted = args.find(
      (arg): arg is Wanted => typeof arg === 'object' && arg !== null && 'positions' in arg,
    );
    throw wanted?.positions.length === 1 ? new NotIncludedError('lost', 0) : new Error('nothing is wanted');
  };
  const one = {
    findJob: lost,
    findAccount: lost,
    findExport: lost,
    findSchedule: lost,
    findDeadLetter: lost,
  };
  const lists = { listJobs: lost, listSchedules: lost, listDeadLetters: lost, listOperations: lost };
  const { app, login } = everyRoute({ ...one, ...lists, readQueues: lost, waitForWrites: lost });
  const { authorization } = await login('operator');
  const { paths } = (await app.inject('/openapi.json')).json();
  const takes = (operation: { parameters?: { $ref?: string }[] } | undefined) =>
    operation?.parameters?.some(({ $ref }) => $ref?.endsWith('/ConsistentWith'));
  const asked = Object.keys(paths).filter((path) => takes(paths[path].get));
  expect(asked.length).toBeGreaterThan(12);
  for (const path of asked) {
    const id = path.includes('export') ? exportId : path.includes('schedule') ? scheduleId : jobId;
    const url = path.replace('{id}', id).replace('{name}', 'default');
    const answer = await app.inject({ url, headers: { authorization, 'consistent-with': '3.1.7' } });
    expect([path, answer.statusCode]).toEqual([path, 410]);
  }
});

describe('one job', () => {
  test('is read with its version as ETag, and not sent again to who has it', async () => {
    const { app, login } = everyRoute({ findJob: async () => job });
    const { authorization } = await login();
    const get = (headers: Record<string, string> = {}) =>
      app.inject({ url: `/v1/jobs/${jobId}`, headers: { authorization, ...headers } });
    const response = await get();
    expect(response.headers).toMatchObject({ etag: '"4"', 'cache-control': 'private, no-cache' });
    expect(response.json()).toEqual({ ...job, error: { name: 'Error', message: 'no room' } });
    for (const etag of ['"4"', 'W/"4"', '"1", "4"', '*']) {
      const again = await get({ 'if-none-match': etag });
      expect(again.statusCode).toBe(304);
      expect(again.body).toBe('');
      expect(again.headers.etag).toBe('"4"');
    }
    expect((await get({ 'if-none-match': '"3"' })).statusCode).toBe(200);
    const head = await app.inject({ method: 'HEAD', url: `/v1/jobs/${jobId}`, headers: { authorization } });
    expect(head.statusCode).toBe(200);
    expect(head.body).toBe('');
  });

  test('of a job says by its ETag, too, whether it is parked: that is no event of its own', async () => {
    const shown = { ...job, parked: true as const };
    const { app, login } = everyRoute({ findJob: async () => shown });
    const { authorization } = await login();
    const headers = { authorization, 'if-none-match': '"4"' };
    const response = await app.inject({ url: `/v1/jobs/${jobId}`, headers });
    expect(response.statusCode).toBe(200);
    expect(response.json()).toMatchObject({ parked: true });
  });

  test("is looked for as the caller's own, by an operator as anybody's", async () => {
    const asked: unknown[] = [];
    const { app, login } = everyRoute({
      findJob: async (id, owner) => {
        asked.push([id, owner]);
        return undefined;
      },
    });
    const user = await login();
    const operator = await login('operator');
    for (const { authorization } of [user, operator]) {
      expect((await app.inject({ url: `/v1/jobs/${jobId}`, headers: { authorization } })).statusCode).toBe(
        404,
      );
    }
    expect(asked).toEqual([
      [jobId, user.accountId],
      [jobId, undefined],
    ]);
  });

  test.each([exportId, 'job-', 'x', '..%2f..', 'x'.repeat(400)])('of id %s is not there: 404', async (id) => {
    const { app, login } = everyRoute({ findJob: () => Promise.reject(new Error('was asked')) });
    const { authorization } = await login();
    expect((await app.inject({ url: `/v1/jobs/${id}`, headers: { authorization } })).statusCode).toBe(404);
  });
});

describe('a list of jobs', () => {
  const jobs = Array.from({ length: 5 }, (_, i) => ({ ...job, id: `${jobId.slice(0, -1)}${i}` }));
  const listed: JobListing[] = [];
  const { app, login } = everyRoute({
    listJobs: async (listing) => {
      listed.push(listing);
      const from = listing.before ? jobs.findIndex(({ id }) => id === listing.before?.id) + 1 : 0;
      return jobs.slice(from, from + listing.limit);
    },
  });

  test('comes in pages; each names the next, and the last one none', async () => {
    const { authorization, accountId } = await login();
    const ids: string[] = [];
    let url = '/v1/jobs?limit=2&status=failed';
    while (url !== '') {
      const response = await app.inject({ url, headers: { authorization } });
      expect(response.statusCode).toBe(200);
      const page = response.json();
      ids.push(...page.items.map(({ id }: JobView) => id));
      const link = response.headers.link?.toString();
      expect(link === undefined).toBe(page.nextCursor === undefined);
      url = /^<([^>]+)>; rel="next"$/.exec(link ?? '')?.[1] ?? '';
      if (url !== '') expect(url).toContain('status=failed');
    }
    expect(ids).toEqual(jobs.map(({ id }) => id));
    expect(listed.every((listing) => listing.owner === accountId && listing.status === 'failed')).toBe(true);
  });

  test('has the ETag of what is in it, and is not sent again to who has it', async () => {
    const { authorization } = await login();
    const get = (url: string, headers: Record<string, string> = {}, method: 'GET' | 'HEAD' = 'GET') =>
      app.inject({ method, url, headers: { authorization, ...headers } });
    const first = await get('/v1/jobs?limit=2');
    const etag = String(first.headers.etag);
    expect(etag).toMatch(/^"[\w-]{20,}"$/);
    expect(first.headers['cache-control']).toBe('private, no-cache');
    for (const method of ['GET', 'HEAD'] as const) {
      const again = await get('/v1/jobs?limit=2', { 'if-none-match': etag }, method);
      expect(again.statusCode).toBe(304);
      expect(again.body).toBe('');
      expect(again.headers).toMatchObject({ etag, 'cache-control': 'private, no-cache' });
      expect(again.headers['content-type']).toBeUndefined();
    }
    const other = await get('/v1/jobs?limit=3', { 'if-none-match': etag });
    expect(other.statusCode).toBe(200);
    expect(other.headers.etag).not.toBe(etag);
  });

  test.each([
    'limit=0',
    'limit=201',
    'limit=x',
    'status=done',
    'from=yesterday',
    'from=2026-06-30T23:59:60Z',
    'cursor=abc',
    'cursor=e30.AAAA',
    'sort=asc',
  ])('with %s is refused: 400, naming the parameter', async (query) => {
    const { authorization } = await login();
    const response = await app.inject({ url: `/v1/jobs?${query}`, headers: { authorization } });
    expect(response.statusCode).toBe(400);
    const named = response.json().errors.map((error: { parameter: string }) => error.parameter);
    expect([...new Set(named)]).toEqual([query.split('=')[0]]);
  });
});
