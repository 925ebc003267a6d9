import { Webhook } from 'standardwebhooks';
import { expect, test } from 'vitest';
import { waitUntil } from '../support/installation.ts';
import { type Received, startReceiver } from '../support/receiver.ts';
import { sharedSetting } from '../support/setting.ts';

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

test('killed processes lose no callback and double none', { timeout: 120_000 }, async () => {
  const { world, installation } = await sharedSetting(allowed);
  const client = installation.client();
  await installation.startAll();
  const { token } = await client.register();
  const { url, received } = await startReceiver((_, response) => response.writeHead(204).end());
  const ids = new Set<string>();
  const enqueue = async (count: number) => {
    const jobs = Array.from({ length: count }, (_, n) => ({
      type: 'echo',
      payload: { n },
      callbackUrl: `${url}/hook`,
    }));
    const { body } = await client.send('POST', '/v1/jobs/batch', { token, body: { jobs } });
    const items: unknown[] = Array.isArray(body.items) ? body.items : [];
    for (const item of items) if (item && typeof item === 'object' && 'id' in item) ids.add(String(item.id));
  };
  for (let round = 0; round < 3; round++) {
    const [projectors, workers] = await Promise.all([
      installation.start('projectors'),
      installation.start('workers'),
    ]);
    const seen = received.length;
    const enqueueing = enqueue(100);
    await waitUntil(() => received.length > seen, 'a callback of this round', 30_000);
    await Promise.all([projectors.kill(), workers.kill()]);
    await enqueueing;
  }
  await installation.start('projectors');
  await installation.start('workers');
  const told = () => new Set(received.map((request) => String(bodyOf(request).id)));
  await waitUntil(() => told().size === ids.size, 'every job to be told of', 60_000);
  expect(ids.size).toBe(300);
  expect(told()).toEqual(ids);

  // A request may come twice; then it is the same one, by its id: of each end there is one.
  const webhooks = new Map<string, Set<unknown>>();
  for (const request of received) {
    const id = String(bodyOf(request).id);
    webhooks.set(id, (webhooks.get(id) ?? new Set()).add(request.headers['webhook-id']));
  }
  expect([...webhooks.values()].filter((each) => each.size !== 1)).toEqual([]);
  await waitUntil(async () => {
    const rows = await world.db
      .selectFrom('ledger')
      .select('data')
      .where('type', '=', 'JobEnqueued')
      .where('data', 'like', '%"http.request"%')
      .execute();
    return rows.length === 300;
  }, 'the ledger to hold one request for each');
});
