import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Client, Person } from '../support/client.ts';
import { createInstallation, type Installation, waitUntil } from '../support/installation.ts';
import { ownRedisSetting, sharedSetting } from '../support/setting.ts';
import { createWorld, type World } from '../support/world.ts';

// What keeps state, on the real thing: one installation for all of it.
let world: World;
let installation: Installation;
let client: Client;
let ada: Person;

beforeAll(async () => {
  world = await createWorld();
  const { redisUrl, databaseUrl, prefix } = world;
  installation = await createInstallation({
    redisUrl,
    databaseUrl,
    prefix,
    environment: { RATE_LIMITS: 'true' },
  });
  await installation.startAll();
  client = installation.client();
  ada = await client.register();
});
afterAll(async () => {
  await installation?.dispose();
  await world?.dispose();
});

const exported = { dataset: 'events', format: 'ndjson' };

/** All that a stream says until it ends, with what to resume from. */
async function followed(path: string, headers: Record<string, string>) {
  const response = await fetch(new URL(path, installation.url), { headers });
  const text = await response.text();
  const events = text.split('\n\n').flatMap((block) => {
    const [, id] = /^id: (\d+)$/m.exec(block) ?? [];
    const [, event] = /^event: (\w+)$/m.exec(block) ?? [];
    return event === undefined ? [] : [{ id: Number(id), event }];
  });
  return { status: response.status, text, events };
}

describe('an export', () => {
  test('is followed live to its end, resumed where one left off, and 204 after that', async () => {
    const asked = await client.send('POST', '/v1/exports', { token: ada.token, body: exported });
    expect(asked.status).toBe(202);
    const path = `${asked.headers.get('location')}/progress`;
    const authorization = `Bearer ${ada.token}`;
    const position = String(asked.headers.get('position'));
    const live = await followed(path, { authorization, 'consistent-with': position });
    expect(live.text.startsWith('retry: 2000\n\n')).toBe(true);
    const ids = live.events.map(({ id }) => id);
    expect(ids).toEqual([...new Set(ids)].sort((a, b) => a - b));
    const last = live.events.at(-1);
    expect(last?.event).toBe('succeeded');
    expect(live.events.slice(0, -1).every(({ event }) => event === 'progress')).toBe(true);

    const rest = await followed(path, { authorization, 'last-event-id': String(ids[0]) });
    expect(rest.events.map(({ id }) => id)).toEqual(ids.length > 1 ? [last?.id] : []);
    expect((await followed(path, { authorization, 'last-event-id': String(last?.id) })).status).toBe(204);

    const issued = await client.send('POST', '/v1/stream-tickets', { token: ada.token, body: { path } });
    const ticket = encodeURIComponent(String(issued.body.ticket));
    expect((await followed(`${path}?ticket=${ticket}`, {})).events).toEqual([last]);
  });

  test('of somebody else is not there, whatever one asks of it', async () => {
    const { requested } = await client.exportEvents(ada.token);
    const bob = await client.register();
    const id = String(requested.body.id);
    const jobId = String(requested.body.jobId);
    for (const path of [
      `/v1/exports/${id}`,
      `/v1/exports/${id}/download`,
      `/v1/exports/${id}/progress`,
      `/v1/jobs/${jobId}`,
      `/v1/sessions/${ada.sessionId}`,
    ]) {
      expect((await client.send('GET', path, { token: ada.token })).status, path).toBe(200);
      const answer = await client.send('GET', path, { token: bob.token });
      expect(answer.status, path).toBe(404);
      expect(answer.body.code).toBe('not_found');
    }
    expect((await client.send('DELETE', `/v1/sessions/${ada.sessionId}`, { token: bob.token })).status).toBe(
      404,
    );
    expect((await client.send('GET', '/v1/sessions/current', { token: ada.token })).status).toBe(200);
  });

  test('is downloaded by a URL that needs nothing else, in parts, and by nobody who changes it', async () => {
    const { requested } = await client.exportEvents(ada.token);
    const { answer, file } = await client.download(String(requested.body.id), ada.token);
    expect(file.headers.get('etag')).toBe(`"${answer.body.sha256}"`);
    expect(file.headers.get('content-type')).toBe('application/gzip');
    expect(file.headers.get('content-encoding')).toBeNull();
    const url = new URL(String(answer.body.url), installation.url);
    const part = await fetch(url, { headers: { range: 'bytes=0-1' } });
    expect(part.status).toBe(206);
    expect([...new Uint8Array(await part.arrayBuffer())]).toEqual([0x1f, 0x8b]);
    url.searchParams.set('expires', String(Number(url.searchParams.get('expires')) + 1));
    expect((await fetch(url)).status).toBe(403);
  });

  test('shows among the jobs of its owner only, page by page', async () => {
    const person = await client.register();
    const ids: string[] = [];
    for (let i = 0; i < 3; i++)
      ids.push(String((await client.exportEvents(person.token)).requested.body.jobId));
    const seen: string[] = [];
    let path = '/v1/jobs?limit=2&type=export';
    while (path !== '') {
      const page = await client.send('GET', path, { token: person.token });
      seen.push(...(page.body.items as { id: string }[]).map(({ id }) => id));
      path = /^<([^>]+)>/.exec(page.headers.get('link') ?? '')?.[1] ?? '';
    }
    expect(seen).toEqual(ids.toReversed());
  });
});

describe('a session', () => {
  test('goes on with new tokens; one that was used before ends it for both who hold it', async () => {
    const person = await client.register();
    const { answer } = await client.logIn(person.email, person.password);
    const refresh = (refreshToken: unknown) =>
      client.send('POST', '/v1/sessions/refresh', { body: { refreshToken } });
    const second = await refresh(answer.body.refreshToken);
    expect(second.status).toBe(200);
    expect(second.body.sessionId).toBe(answer.body.sessionId);
    // Its answer may have been lost: the predecessor is forgiven for a moment.
    const third = await refresh(answer.body.refreshToken);
    expect(third.status).toBe(200);
    const fourth = await refresh(third.body.refreshToken);
    expect(fourth.status).toBe(200);

    const stolen = await refresh(answer.body.refreshToken);
    expect(stolen.status).toBe(401);
    expect(stolen.body.code).toBe('refresh_token_reused');
    for (const token of [answer.body.accessToken, fourth.body.accessToken]) {
      const me = await client.send('GET', '/v1/sessions/current', { token: String(token) });
      expect(me.status).toBe(401);
      expect(me.headers.get('www-authenticate')).toContain('invalid_token');
    }
    expect((await refresh(fourth.body.refreshToken)).body.code).toBe('session_ended');
    expect((await client.send('GET', '/v1/sessions/current', { token: person.token })).status).toBe(200);
  });

  test.each(['nonsense', 'ses-00abcdefghijklmnopqrst.secret', 'acc-00abcdefghijklmnopqrst.x'])(
    'is not refreshed by %s',
    async (refreshToken) => {
      const answer = await client.send('POST', '/v1/sessions/refresh', { body: { refreshToken } });
      expect(answer.status).toBe(401);
    },
  );

  test('is begun with the right password only, and a wrong one looks like an unknown account', async () => {
    const person = await client.register();
    const log = async (email: string, password: string) => {
      const { status, body } = await client.send('POST', '/v1/sessions', { body: { email, password } });
      const { instance: _instance, traceId: _traceId, ...rest } = body;
      return { status, ...rest };
    };
    const wrong = await log(person.email, 'wrong horse battery');
    expect(wrong).toMatchObject({ status: 401, code: 'wrong_credentials' });
    expect(await log('nobody@example.com', 'wrong horse battery')).toEqual(wrong);
    expect((await log(person.email.toUpperCase(), person.password)).status).toBe(201);
  });

  test('that was begun with a key is not begun, nor shown, again', async () => {
    const person = await client.register();
    const body = { email: person.email, password: person.password };
    const log = () => client.send('POST', '/v1/sessions', { body, headers: { 'idempotency-key': '"once"' } });
    expect((await log()).status).toBe(201);
    const again = await log();
    expect(again.status).toBe(409);
    expect(again.body).toMatchObject({ code: 'already_done' });
  });

  test('is guessed at a few times, and then not for a while', async () => {
    const person = await client.register();
    const body = { email: person.email, password: 'wrong horse battery' };
    let answer = await client.send('POST', '/v1/sessions', { body });
    expect(answer.headers.get('ratelimit')).toMatch(/^"logins";r=\d+;t=\d+, "account-logins";r=2\d;t=\d+$/);
    for (let i = 0; i < 60 && answer.status === 401; i++) {
      answer = await client.send('POST', '/v1/sessions', { body });
    }
    expect(answer.status).toBe(429);
    expect(Number(answer.headers.get('retry-after'))).toBeGreaterThan(0);
    expect(answer.body.code).toBe('rate_limited');
  });
});

test('a query waits for its caller’s own write, and says where it can not', async () => {
  const asked = await client.send('POST', '/v1/exports', { token: ada.token, body: exported });
  const get = (position: string, prefer = 'wait=10') =>
    client.send('GET', String(asked.headers.get('location')), {
      token: ada.token,
      headers: { 'consistent-with': position, prefer },
    });
  const position = String(asked.headers.get('position'));
  const found = await get(position);
  expect(found.status).toBe(200);
  expect(found.headers.get('preference-applied')).toBe('wait=10');
  const [partition, epoch] = position.split('.');
  const behind = await get(`${partition}.${epoch}.999999`, 'wait=0');
  expect(behind.body.code).toBe('read_model_behind');
  expect(behind.headers.get('retry-after')).toBeTruthy();
  expect((await get('not a position')).status).toBe(400);
});

test('what was made a moment ago is waited for by who asks for it, and is not there for anybody else', async () => {
  const { installation: own } = await sharedSetting();
  await own.start('api');
  const api = own.client();
  // Before any read model has seen anything at all.
  const [made, other] = await Promise.all([api.register(), api.register()]);
  const { token } = made;
  const job = { type: 'echo', payload: {} };
  const schedule = { cron: '0 9 * * *', job };
  const asked = await Promise.all([
    api.send('POST', '/v1/jobs', { token, body: job }),
    api.send('POST', '/v1/exports', { token, body: exported }),
    api.send('POST', '/v1/schedules', { token, body: schedule }),
  ]);
  const paths = asked.map(({ headers }) => String(headers.get('location')));
  expect(paths).toHaveLength(3);
  for (const path of paths) {
    expect((await api.send('GET', path, { token: other.token })).body.code).toBe('not_found');
  }
  const begun = performance.now();
  expect((await api.send('GET', paths[0] ?? '', { token })).body.code).toBe('read_model_behind');
  expect(performance.now() - begun).toBeGreaterThan(4_500);

  const asking = ['/v1/accounts/me', ...paths].map((path) => api.send('GET', path, { token }));
  await own.start('projectors');
  const found = await Promise.all(asking);
  expect(found.map(({ status }) => status)).toEqual([200, 200, 200, 200]);
  expect((await api.send('DELETE', paths[2] ?? '', { token })).status).toBe(204);
  await waitUntil(
    async () => (await api.send('GET', paths[2] ?? '', { token })).status === 404,
    'what was deleted not to be there',
  );
});

test('while Redis is away, queries go on with a token that was good, and commands say that nothing was done', async () => {
  const { redis, installation: own } = await ownRedisSetting();
  await Promise.all([own.start('api'), own.start('projectors')]);
  const api = own.client();
  const person = await api.register();
  const read = () => api.send('GET', '/v1/accounts/me', { token: person.token });
  await waitUntil(async () => (await read()).status === 200, 'the account to be readable');
  await redis.stop();
  const command = () => api.send('POST', '/v1/exports', { token: person.token, body: exported });
  await waitUntil(async () => (await command()).status === 503, 'the loss of Redis to be noticed');
  const refused = await command();
  expect(refused.headers.get('retry-after')).toBeTruthy();
  expect(refused.body.code).toMatch(/^store_/);
  expect((await read()).body).toMatchObject({ id: person.id, email: person.email });
  const stranger = await api.send('GET', '/v1/accounts/me', { token: `${person.token}x` });
  expect(stranger.status).toBe(401);
});
