import { expect, test } from 'vitest';
import type { Answer } from '../support/client.ts';
import { waitUntil } from '../support/installation.ts';
import { sharedSetting } from '../support/setting.ts';

const echo = { type: 'echo', payload: { a: 1 } };
const positionOf = ({ headers }: Answer) => String(headers.get('position'));

test('A schedule over HTTP: its runs succeed, its owner alone sees it, and it is gone when it is deleted', async () => {
  const { installation } = await sharedSetting({ SCHEDULE_SHORTEST_PAUSE_SECONDS: '1' });
  await installation.startAll();
  const client = installation.client();
  const [ada, bob] = await Promise.all([client.register(), client.register()]);
  const body = { cron: '* * * * * *', missed: 'all', job: echo };
  const once = { token: ada.token, body, headers: { 'idempotency-key': '"once"' } };
  const made = await client.send('POST', '/v1/schedules', once);
  expect(made.status).toBe(201);
  const path = String(made.headers.get('location'));
  expect(path).toBe(`/v1/schedules/${made.body.id}`);
  expect(made.headers.get('etag')).toBe('"1"');
  const again = await client.send('POST', '/v1/schedules', once);
  expect(again.headers.get('idempotency-replayed')).toBe('true');
  expect(again.body).toEqual(made.body);
  const other = { ...once, body: { ...body, missed: 'skip' } };
  expect((await client.send('POST', '/v1/schedules', other)).body.code).toBe('idempotency_key_reused');

  const sees = { token: ada.token, headers: { 'consistent-with': positionOf(made) } };
  const read = () => client.send('GET', path, sees);
  await waitUntil(async () => (await read()).body.lastJobId !== undefined, 'its first run');
  const { body: seen, headers } = await read();
  expect(seen).toMatchObject({ ...body, timezone: 'UTC' });
  expect(seen.job).not.toHaveProperty('lane');
  expect(seen).not.toHaveProperty('owner');
  expect(headers.get('etag')).toBe(`"${seen.version}"`);
  const jobPath = `/v1/jobs/${seen.lastJobId}`;
  const jobOf = async () => (await client.send('GET', jobPath, { token: ada.token })).body;
  await waitUntil(async () => (await jobOf()).status === 'succeeded', 'its run to succeed');
  expect(await jobOf()).toMatchObject({ type: 'echo', result: { a: 1 } });
  const { items } = (await client.send('GET', `${jobPath}/events`, { token: ada.token })).body;
  const [first] = Array.isArray(items) ? items : [];
  expect(first.data.schedule).toEqual({ id: made.body.id, tick: expect.stringMatching(/Z$/) });

  for (const [method, token] of [['GET', bob.token] as const, ['DELETE', bob.token] as const]) {
    expect((await client.send(method, path, { token })).status).toBe(404);
  }
  expect((await client.send('GET', '/v1/schedules', { token: bob.token })).body.items).toEqual([]);
  const { token: operator } = await installation.operator();
  expect((await client.send('GET', path, { token: operator })).status).toBe(200);

  const deleted = await client.send('DELETE', path, { token: operator });
  expect(deleted.status).toBe(204);
  const after = { token: ada.token, headers: { 'consistent-with': positionOf(deleted) } };
  expect((await client.send('GET', path, after)).status).toBe(404);
  expect((await client.send('GET', '/v1/schedules', after)).body.items).toEqual([]);
  expect((await client.send('DELETE', path, { token: ada.token })).status).toBe(204);
});

test('Schedules are listed page by page, and what can not be one is refused with a pointer', async () => {
  const { installation } = await sharedSetting();
  await Promise.all([installation.start('api'), installation.start('projectors')]);
  const client = installation.client();
  const { token } = await client.register();
  const ask = (body: object) => client.send('POST', '/v1/schedules', { token, body });
  const made: Answer[] = [];
  for (const minute of [1, 2, 3]) made.push(await ask({ cron: `${minute} 0 29 2 *`, job: echo }));
  expect(made.map(({ status }) => status)).toEqual([201, 201, 201]);
  expect(String(made[0]?.body.nextRunAt)).toMatch(/-02-29T00:01:00.000Z$/);

  const seen: unknown[] = [];
  const headers = { 'consistent-with': made.map(positionOf).join(', ') };
  for (let page: string | undefined = '/v1/schedules?limit=2'; page; ) {
    const answer = await client.send('GET', page, { token, headers });
    const { items } = answer.body;
    seen.push(...(Array.isArray(items) ? items : []).map(({ id }) => id));
    page = /<([^>]+)>; rel="next"/.exec(answer.headers.get('link') ?? '')?.[1];
  }
  expect(seen).toEqual(made.map(({ body }) => body.id).reverse());

  const pointers = async (body: object) => {
    const { status, body: problem } = await ask(body);
    expect(status).toBe(400);
    return (Array.isArray(problem.errors) ? problem.errors : []).map(({ pointer }) => pointer);
  };
  expect(await pointers({ cron: '0 0 30 2 *', job: echo })).toEqual(['/cron']);
  expect(await pointers({ cron: 'at nine', job: echo })).toEqual(['/cron']);
  expect(await pointers({ cron: '*/30 * * * * *', job: echo })).toEqual(['/cron']);
  expect(await pointers({ cron: '@daily', timezone: 'Mars/Olympus', job: echo })).toEqual(['/timezone']);
  expect(await pointers({ cron: '@daily', job: { type: 'no-such-type', payload: {} } })).toEqual([
    '/job/type',
  ]);
  expect(await pointers({ cron: '@daily', job: { ...echo, payload: 'x' } })).toEqual(['/job/payload']);
  expect(await pointers({ cron: '@daily', job: { ...echo, runAt: '2030-01-01T00:00:00Z' } })).toEqual([
    '/job/runAt',
  ]);
  expect(await pointers({ cron: '@daily', job: { ...echo, orderingKey: 'k', priority: 'high' } })).toEqual([
    '/job/priority',
  ]);
  const forbidden = await ask({ cron: '@daily', job: { type: 'export', payload: { exportId: 'exp-1' } } });
  expect([forbidden.status, forbidden.body.code]).toEqual([403, 'forbidden']);
});
