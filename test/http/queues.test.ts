import { describe, expect, test } from 'vitest';
import type { CommandContext } from '../../src/commands/handle.ts';
import type { QueueView } from '../../src/http/queues.ts';
import { done, everyRoute } from './routes.ts';

const queue: QueueView = {
  id: 'default',
  paused: false,
  waiting: 3,
  parked: 1,
  running: 2,
  scheduled: 4,
  oldestWaitingAt: '2026-11-20T21:47:00.000Z',
  version: 0,
};

async function queues(role: 'user' | 'operator' = 'operator', known: QueueView = queue) {
  const changes: { context: CommandContext; queue: string }[] = [];
  const { app, login } = everyRoute({
    readQueues: async (names) => names.map((id) => ({ ...known, id })),
    async pauseQueue(context, queue) {
      changes.push({ context, queue });
      return done({ id: queue, version: 1, paused: true });
    },
  });
  const { authorization, accountId } = await login(role);
  return {
    changes,
    accountId,
    get: (url: string) => app.inject({ url, headers: { authorization } }),
    bare: (url: string) => app.inject({ method: 'POST', url, headers: { authorization } }),
    post: (url: string, payload: unknown = { reason: 'mail server down' }) =>
      app.inject({
        method: 'POST',
        url,
        headers: { authorization, 'content-type': 'application/json' },
        payload: JSON.stringify(payload),
      }),
  };
}

describe('the queues', () => {
  test('are told to operators, all of them or one', async () => {
    const { get } = await queues();
    const list = await get('/v1/ops/queues');
    expect(list.statusCode).toBe(200);
    expect(list.json().items.map(({ id }: QueueView) => id)).toEqual([
      'default',
      'exports',
      'webhooks',
      'email',
    ]);
    expect((await get('/v1/ops/queues/default')).json()).toEqual(queue);
    expect((await get('/v1/ops/queues/nowhere')).statusCode).toBe(404);
  });

  test('are nobody else’s business: 403', async () => {
    const { get, post, changes } = await queues('user');
    for (const url of ['/v1/ops/queues', '/v1/ops/queues/default', '/v1/ops/queues/nowhere']) {
      expect((await get(url)).statusCode).toBe(403);
    }
    expect((await post('/v1/ops/queues/default/pause')).statusCode).toBe(403);
    expect(changes).toEqual([]);
  });
});

describe('pausing a queue', () => {
  test('is done by an operator, with a reason', async () => {
    const { post, changes, accountId } = await queues();
    const response = await post('/v1/ops/queues/email/pause');
    expect(response.statusCode).toBe(202);
    expect(response.headers).toMatchObject({ location: '/v1/ops/queues/email', etag: '"1"' });
    expect(response.json()).toEqual({ id: 'email', version: 1, paused: true });
    expect(changes).toMatchObject([
      { queue: 'email', context: { actor: accountId, reason: 'mail server down' } },
    ]);
  });

  test.each([{}, { reason: '' }, { reason: '  ' }, { reason: 'x'.repeat(501) }, { reason: 'a', b: 1 }])(
    'is refused with %j: 400',
    async (body) => {
      const { post, changes } = await queues();
      expect((await post('/v1/ops/queues/email/pause', body)).statusCode).toBe(400);
      expect(changes).toEqual([]);
    },
  );

  test('as a dry run says whether it would change anything, and changes nothing', async () => {
    const open = await queues();
    const answer = await open.post('/v1/ops/queues/email/pause?dryRun=true');
    expect(answer.statusCode).toBe(200);
    expect(answer.json()).toEqual({ count: 1, sample: [{ id: 'email', status: 'open' }] });
    const resume = await open.post('/v1/ops/queues/email/resume?dryRun=true');
    expect(resume.json()).toEqual({ count: 0, sample: [] });
    const paused = await queues('operator', { ...queue, paused: true });
    expect((await paused.post('/v1/ops/queues/email/resume?dryRun=true')).json()).toEqual({
      count: 1,
      sample: [{ id: 'email', status: 'paused' }],
    });
    // Who only asks has nothing to say why of.
    const url = '/v1/ops/queues/email/pause?dryRun=true';
    expect((await open.post(url, {})).statusCode).toBe(200);
    expect((await open.bare(url)).statusCode).toBe(200);
    expect((await open.post(url, { b: 1 })).statusCode).toBe(400);
    expect((await open.post(url.replace('true', 'false'), {})).statusCode).toBe(400);
    expect([...open.changes, ...paused.changes]).toEqual([]);
  });
});
