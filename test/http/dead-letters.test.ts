import { describe, expect, test } from 'vitest';
import type { CommandContext } from '../../src/commands/handle.ts';
import type { LetterView } from '../../src/projections/dead-letters/queries.ts';
import { done, everyRoute, jobId } from './routes.ts';

const letter: LetterView = {
  id: jobId,
  type: 'email.send',
  queue: 'email',
  owner: 'acc-1',
  orderingKey: 'ada',
  lane: 'f'.repeat(32),
  status: 'dead',
  reason: 'attempts',
  attempts: 3,
  deaths: 1,
  error: { name: 'Error', message: 'no route', fingerprint: 'abc' },
  worker: 'w',
  ignoredAbort: false,
  diedAt: '2026-11-20T21:47:00.000Z',
  version: 7,
};
const { lane, ...shown } = letter;
const attempt = {
  attempt: 3,
  at: letter.diedAt,
  error: { name: 'Error', message: 'no route', fingerprint: 'abc' },
  stack: 'at /srv/mail.ts:7',
  worker: 'w',
  traceId: '1'.repeat(32),
  ignoredAbort: false,
  final: true,
};

async function letters(role: 'user' | 'operator' = 'operator', found: readonly LetterView[] = [letter]) {
  const asked: object[] = [];
  const settled: { context: CommandContext; settling: string; wanted: object }[] = [];
  const { app, login } = everyRoute({
    async listDeadLetters(listing) {
      asked.push(listing);
      return found;
    },
    findDeadLetter: async () => found[0],
    failedAttempts: async () => [attempt],
    countWaiting: async (lanes) => new Map(lanes.map((each) => [each, 4])),
    async settleLetters(context, settling, wanted) {
      settled.push({ context, settling, wanted });
      return done({ id: jobId, version: 1, status: 'queued' });
    },
    foreseeSettling: async () => ({ count: 12, ids: [jobId] }),
  });
  const { authorization, accountId } = await login(role);
  return {
    asked,
    settled,
    accountId,
    get: (url: string, headers = {}) => app.inject({ url, headers: { authorization, ...headers } }),
    post: (url: string, payload: unknown) =>
      app.inject({
        method: 'POST',
        url,
        headers: { authorization, 'content-type': 'application/json' },
        payload: JSON.stringify(payload),
      }),
  };
}

describe('GET /v1/ops/dead-letters', () => {
  test('lists what is dead, with how many jobs wait behind each', async () => {
    const { get, asked } = await letters();
    const response = await get('/v1/ops/dead-letters');
    expect(response.statusCode).toBe(200);
    expect(response.json()).toEqual({ items: [{ ...shown, waiting: 4 }] });
    expect(asked).toEqual([{ status: 'dead', limit: 51 }]);
  });

  test('is narrowed by whatever tells letters apart, and read page by page', async () => {
    const { get, asked } = await letters('operator', [letter, letter]);
    const query =
      'type=a&queue=email&fingerprint=f&orderingKey=k&owner=acc-1&reason=no_retry&status=redriven';
    const times = 'from=2026-11-20T21:47:00Z&to=2026-11-21T21:47:00Z';
    const first = await get(`/v1/ops/dead-letters?${query}&${times}&limit=1`);
    expect(first.statusCode).toBe(200);
    expect(first.headers.link).toContain('rel="next"');
    await get(`/v1/ops/dead-letters?limit=1&cursor=${first.json().nextCursor}`);
    expect(asked).toEqual([
      {
        type: 'a',
        queue: 'email',
        fingerprint: 'f',
        orderingKey: 'k',
        owner: 'acc-1',
        reason: 'no_retry',
        status: 'redriven',
        from: '2026-11-20T21:47:00Z',
        to: '2026-11-21T21:47:00Z',
        limit: 2,
      },
      { status: 'dead', limit: 2, before: { diedAt: letter.diedAt, id: jobId } },
    ]);
  });

  test('shows one with every attempt and its stack, and not again to who has it', async () => {
    const { get } = await letters();
    const response = await get(`/v1/ops/dead-letters/${jobId}`);
    expect(response.json()).toEqual({ ...shown, waiting: 4, failures: [attempt] });
    const again = await get(`/v1/ops/dead-letters/${jobId}`, {
      'if-none-match': String(response.headers.etag),
    });
    expect(again.statusCode).toBe(304);
    expect((await get('/v1/ops/dead-letters/exp-1')).statusCode).toBe(404);
    expect((await (await letters('operator', [])).get(`/v1/ops/dead-letters/${jobId}`)).statusCode).toBe(404);
  });
});

test('dead letters are nobody’s business but operators’: 403', async () => {
  const { get, post, settled } = await letters('user');
  expect((await get('/v1/ops/dead-letters')).statusCode).toBe(403);
  expect((await get(`/v1/ops/dead-letters/${jobId}`)).statusCode).toBe(403);
  const wanted = { filter: { all: true }, reason: 'x' };
  expect((await post('/v1/ops/dead-letters/redrive', wanted)).statusCode).toBe(403);
  expect((await post(`/v1/jobs/${jobId}/discard`, { reason: 'x' })).statusCode).toBe(403);
  expect(settled).toEqual([]);
});

describe.each(['redrive', 'discard'])('POST /v1/ops/dead-letters/%s', (settling) => {
  const url = `/v1/ops/dead-letters/${settling}`;

  test('is taken as a job, which is answered', async () => {
    const { post, settled, accountId } = await letters();
    const filter = { type: 'email.send', ids: [jobId] };
    const response = await post(url, { filter, reason: 'it is back', rate: 5 });
    expect(response.statusCode).toBe(202);
    expect(response.headers).toMatchObject({ location: `/v1/jobs/${jobId}`, etag: '"1"' });
    expect(settled).toMatchObject([
      { settling, wanted: { filter, rate: 5 }, context: { actor: accountId, reason: 'it is back' } },
    ]);
    await post(url, { filter: { all: true }, reason: 'it is back' });
    expect(settled[1]).toMatchObject({ wanted: { filter: {}, rate: 50 } });
  });

  test.each([
    ['no filter', { reason: 'x' }],
    ['an empty filter', { filter: {}, reason: 'x' }],
    ['all of them and some of them', { filter: { all: true, type: 'a' }, reason: 'x' }],
    ['not all of them', { filter: { all: false }, reason: 'x' }],
    ['no ids', { filter: { ids: [] }, reason: 'x' }],
    ['what is no id', { filter: { ids: [jobId, 'job-1'] }, reason: 'x' }],
    ['too many ids', { filter: { ids: Array(1001).fill(jobId) }, reason: 'x' }],
    ['a criterion that there is not', { filter: { before: 'now' }, reason: 'x' }],
    ['no reason', { filter: { all: true } }],
    ['an empty reason', { filter: { all: true }, reason: '' }],
    ['a rate of none', { filter: { all: true }, reason: 'x', rate: 0 }],
    ['a rate that is too high', { filter: { all: true }, reason: 'x', rate: 1001 }],
  ])('with %s is refused: 400', async (_what, body) => {
    const { post, settled } = await letters();
    expect((await post(url, body)).statusCode).toBe(400);
    expect(settled).toEqual([]);
  });

  test('as a dry run says how many, and which first, and changes nothing', async () => {
    const { post, settled } = await letters();
    const response = await post(`${url}?dryRun=true`, { filter: { all: true }, reason: 'x' });
    expect(response.statusCode).toBe(200);
    expect(response.json()).toEqual({ count: 12, sample: [{ id: jobId, status: 'dead' }] });
    expect(settled).toEqual([]);
  });
});

describe.each(['cancel', 'retry', 'discard'] as const)('POST /v1/jobs/{id}/%s', (change) => {
  async function changing(foreseen: object = { ok: true, status: 'failed', changes: true }) {
    const contexts: CommandContext[] = [];
    const command = async (context: CommandContext) => {
      contexts.push(context);
      return done({ id: jobId, version: 3, status: 'queued' as const });
    };
    const { app, login } = everyRoute({
      cancelJob: command,
      retryJob: command,
      discardJob: command,
      foreseeChange: async (name) => {
        expect(name).toBe(change);
        return foreseen as { ok: true; status: 'failed'; changes: boolean };
      },
    });
    const { authorization } = await login('operator');
    return {
      contexts,
      post: (query = '', payload?: object) =>
        app.inject({
          method: 'POST',
          url: `/v1/jobs/${jobId}/${change}${query}`,
          headers: { authorization, ...(payload ? { 'content-type': 'application/json' } : {}) },
          ...(payload ? { payload: JSON.stringify(payload) } : {}),
        }),
    };
  }

  test('takes a reason, and goes without one', async () => {
    const { post, contexts } = await changing();
    expect((await post('', { reason: 'sent twice' })).statusCode).toBe(202);
    expect((await post()).statusCode).toBe(202);
    expect((await post('', {})).statusCode).toBe(202);
    expect(contexts.map(({ reason }) => reason)).toEqual(['sent twice', undefined, undefined]);
    expect((await post('', { reason: '' })).statusCode).toBe(400);
    expect((await post('', { why: 'x' })).statusCode).toBe(400);
  });

  test('as a dry run says what it would meet, and changes nothing', async () => {
    const { post, contexts } = await changing();
    const response = await post('?dryRun=true', { reason: 'x' });
    expect(response.statusCode).toBe(200);
    expect(response.json()).toEqual({ count: 1, sample: [{ id: jobId, status: 'failed' }] });
    const done = await changing({ ok: true, status: 'failed', changes: false });
    expect((await done.post('?dryRun=true')).json()).toEqual({ count: 0, sample: [] });
    const refusal = { code: 'job_finished', detail: 'It has ended.' };
    const refused = await changing({ ok: false, refusal });
    expect((await refused.post('?dryRun=true')).statusCode).toBe(409);
    expect(contexts).toEqual([]);
  });
});
