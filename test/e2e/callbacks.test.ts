import { Webhook } from 'standardwebhooks';
import { expect, onTestFinished, test } from 'vitest';
import type { Client } from '../support/client.ts';
import { createInstallation, type RoleName, waitUntil } from '../support/installation.ts';
import { ownRedis } from '../support/own-redis.ts';
import { type Received, startReceiver } from '../support/receiver.ts';
import { sharedSetting } from '../support/setting.ts';
import { createWorld, type World } from '../support/world.ts';

const allowed = { HTTP_REQUEST_ALLOW: 'http://127.0.0.1:*', HTTP_REQUEST_ALLOW_PRIVATE: '127.0.0.0/8' };

function never(): never {
  throw new Error('there is none');
}

function bodyOf({ body }: Received): Record<string, unknown> {
  return JSON.parse(body);
}

test('whoever is to be told that a job ended is told once for each end, and knows who tells', async () => {
  const { installation } = await sharedSetting(allowed);
  await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  let refusals = 2;
  const { url, received } = await startReceiver((request, response) => {
    // A receiver that has a bad moment: the same request comes again.
    const busy = request.url === '/busy' && refusals-- > 0;
    response.writeHead(busy ? 503 : 204, busy ? { 'retry-after': '0' } : {}).end();
  });
  const job = { type: 'echo', payload: { a: 1 }, callbackUrl: `${url}/busy` };
  const enqueued = await client.send('POST', '/v1/jobs', { token, body: job });
  expect(enqueued.status).toBe(202);
  const scheduled = await client.send('POST', '/v1/jobs', {
    token,
    body: { ...job, callbackUrl: `${url}/cancelled`, runAt: '2030-01-01T00:00:00Z' },
  });
  await client.send('POST', `/v1/jobs/${scheduled.body.id}/cancel`, { token });
  await waitUntil(() => received.length >= 4, 'three requests for the one job and one for the other', 30_000);

  const about = (path: string) => received.filter((request) => request.path === path);
  expect(about('/busy')).toHaveLength(3);
  expect(new Set(about('/busy').map(({ headers }) => headers['webhook-id'])).size).toBe(1);
  expect(bodyOf(about('/busy')[0] ?? never())).toMatchObject({
    id: enqueued.body.id,
    type: 'echo',
    status: 'succeeded',
    result: { a: 1 },
  });
  expect(about('/cancelled').map(bodyOf)).toMatchObject([{ id: scheduled.body.id, status: 'cancelled' }]);

  const { body } = await client.send('GET', '/v1/webhooks/secret', { token });
  const webhook = new Webhook(String(body.secret));
  for (const { body: text, headers } of received) {
    const given = Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, String(value)]));
    expect(webhook.verify(text, given)).toHaveProperty('status');
  }

  // Another run, another end: it is told of, too.
  await client.send('POST', `/v1/jobs/${scheduled.body.id}/retry`, { token });
  await waitUntil(() => about('/cancelled').length === 2, 'the end of the retried job');
  expect(about('/cancelled').map(bodyOf).at(-1)).toMatchObject({ status: 'succeeded' });
});

/** Enqueues jobs that call back there; answers those that were acknowledged. */
async function enqueue(client: Client, token: string, callbackUrl: string, count: number): Promise<string[]> {
  const jobs = Array.from({ length: count }, (_, n) => ({ type: 'echo', payload: { n }, callbackUrl }));
  const { body } = await client.send('POST', '/v1/jobs/batch', { token, body: { jobs } });
  const items: unknown[] = Array.isArray(body.items) ? body.items : [];
  return items.flatMap((item) =>
    item && typeof item === 'object' && 'id' in item && item.id ? [String(item.id)] : [],
  );
}

/** A request may come twice; then it is the same one, by its id. Answers the jobs of which there is another. */
function toldTwice(received: readonly Received[]): string[] {
  const webhooks = new Map<string, Set<unknown>>();
  for (const request of received) {
    const id = String(bodyOf(request).id);
    webhooks.set(id, (webhooks.get(id) ?? new Set()).add(request.headers['webhook-id']));
  }
  return [...webhooks].filter(([, ids]) => ids.size !== 1).map(([id]) => id);
}

const toldOf = (received: readonly Received[]) =>
  new Set(received.map((request) => String(bodyOf(request).id)));

/** What the ledger holds of requests that were enqueued. */
async function requestsIn({ db }: Pick<World, 'db'>): Promise<number> {
  const rows = await db
    .selectFrom('ledger')
    .select('data')
    .where('type', '=', 'JobEnqueued')
    .where('data', 'like', '%"http.request"%')
    .execute();
  return rows.length;
}

test('killed processes lose no callback and double none', { timeout: 120_000 }, async () => {
  const { world, installation } = await sharedSetting(allowed);
  const client = installation.client();
  await installation.start('api');
  const { token } = await client.register();
  const { url, received } = await startReceiver((_, response) => response.writeHead(204).end());
  const ids: string[] = [];
  // Under its name a process ends its predecessor's leases: nobody waits for them to run out.
  const start = (role: RoleName) => installation.start(role, { INSTANCE_ID: `one-${role}` });
  let workers = await start('workers');
  for (let round = 0; round < 3; round++) {
    const projectors = await start('projectors');
    const seen = received.length;
    const enqueued = enqueue(client, token, url, 100);
    await waitUntil(() => received.length > seen, 'a callback of this round', 30_000);
    await projectors.kill();
    ids.push(...(await enqueued));
    if (round > 0) continue;
    // Once: what it was running comes again in processes of its own, which take their time.
    await workers.kill();
    workers = await start('workers');
  }
  await start('projectors');
  await waitUntil(() => toldOf(received).size === ids.length, 'every job to be told of', 60_000);
  expect(ids).toHaveLength(300);
  expect(toldOf(received)).toEqual(new Set(ids));
  expect(toldTwice(received)).toEqual([]);
  await waitUntil(async () => (await requestsIn(world)) === 300, 'the ledger to hold one request for each');
});

test('a Redis that is killed loses no callback and doubles none', { timeout: 120_000 }, async () => {
  const redis = await ownRedis();
  const world = await createWorld({ redisUrl: redis.url });
  onTestFinished(() => world.dispose());
  const installation = await createInstallation({ ...world, environment: allowed });
  onTestFinished(() => installation.dispose());
  await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  const { url, received } = await startReceiver((_, response) => response.writeHead(204).end());
  const ids: string[] = [];
  for (let round = 0; round < 2; round++) {
    const seen = received.length;
    ids.push(...(await enqueue(client, token, url, 100)));
    await waitUntil(() => received.length > seen, 'a callback of this round', 30_000);
    await redis.kill();
    await redis.start();
    await waitUntil(
      async () => (await fetch(`${installation.url}/readyz`)).status === 200,
      'readiness',
      30_000,
    );
  }
  await waitUntil(() => ids.every((id) => toldOf(received).has(id)), 'every job to be told of', 60_000);
  expect(ids).toHaveLength(200);
  expect(toldTwice(received)).toEqual([]);
  await waitUntil(async () => (await requestsIn(world)) === 200, 'the ledger to hold one request for each');
});
