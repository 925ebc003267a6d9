import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { waitUntil } from '../support/installation.ts';
import { startReceiver } from '../support/receiver.ts';
import { ownRedisSetting, sharedSetting } from '../support/setting.ts';

test('a read model that is paused stays as it is through a crash, says so, and goes on when it is resumed', async () => {
  const { installation } = await sharedSetting();
  const { projectors } = await installation.startAll();
  const client = installation.client();
  const { token: operator } = await installation.operator();
  const { token } = await client.register();
  const change = (name: string, query = '') =>
    client.send('POST', `/v1/ops/projections/jobs/${name}${query}`, {
      token: operator,
      body: { reason: 'its rows are looked at' },
    });
  const paused = async ({ managementUrl }: { managementUrl: string }) =>
    (await (await fetch(`${managementUrl}/metrics`)).text()).includes(
      'millrace_group_paused{group="projection:jobs@2"} 1',
    );

  expect((await change('pause', '?dryRun=true')).body.count).toBe(1);
  expect((await change('pause')).body).toMatchObject({ id: 'projection:jobs@2', paused: true });
  expect((await change('pause')).body).toMatchObject({ version: 1, paused: true });
  expect((await change('pause', '?dryRun=true')).body.count).toBe(0);
  await waitUntil(() => paused(projectors), 'the projectors to know it');

  const asked = await client.send('POST', '/v1/jobs', { token, body: { type: 'echo', payload: {} } });
  expect(asked.status).toBe(202);
  const read = (wait: number) =>
    client.send('GET', `/v1/jobs/${asked.body.id}`, {
      token,
      headers: { 'consistent-with': String(asked.headers.get('position')), prefer: `wait=${wait}` },
    });
  expect(await read(1)).toMatchObject({
    status: 503,
    body: { code: 'read_model_behind', detail: expect.stringContaining('An operator has paused it.') },
  });
  // What another read model is asked is not held up.
  const registered = await client.register();
  expect((await client.send('GET', '/v1/accounts/me', { token: registered.token })).status).toBe(200);

  await projectors.kill();
  const next = await installation.start('projectors');
  await waitUntil(() => paused(next), 'the next projectors to know it');
  expect((await read(1)).status).toBe(503);

  expect((await change('resume')).body).toMatchObject({ version: 2, paused: false });
  const there = await read(20);
  expect([there.status, there.body.id]).toEqual([200, asked.body.id]);
  await waitUntil(
    async () =>
      (await client.send('GET', `/v1/jobs/${asked.body.id}`, { token })).body.status === 'succeeded',
    'the job to have run',
  );
  const { body } = await client.send('GET', '/v1/ops/operations?operation=group.pause', { token: operator });
  expect(body.items).toMatchObject([
    { target: 'projection:jobs@2', reason: 'its rows are looked at' },
    { target: 'projection:jobs@2' },
  ]);
});

test('a reactor that is paused stays so while Redis is made anew, and reacts once when it is resumed', async () => {
  const hook = await startReceiver();
  const { redis, installation } = await ownRedisSetting({
    HTTP_REQUEST_ALLOW: hook.url,
    HTTP_REQUEST_ALLOW_PRIVATE: '127.0.0.1/32',
  });
  await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  const why = ['--reason', 'a test', '--yes'];
  expect((await installation.cli(['groups', 'pause', 'notifier', ...why])).code).toBe(0);
  const asked = await client.send('POST', '/v1/jobs', {
    ...{ token, headers: { durability: 'ledger' } },
    body: { type: 'echo', payload: {}, callbackUrl: `${hook.url}/hook` },
  });
  const job = async () => (await client.send('GET', `/v1/jobs/${asked.body.id}`, { token })).body;
  await waitUntil(async () => (await job()).status === 'succeeded', 'the job to end');

  const connection = new Redis(redis.url);
  onTestFinished(() => connection.disconnect());
  await connection.flushall();
  await waitUntil(
    async () => (await installation.cli(['recover', ...why])).stdout.includes('made anew'),
    'Redis to be made anew',
    30_000,
  );
  const echo = { type: 'echo', payload: {} };
  const goesOn = () => client.send('POST', '/v1/jobs', { token, body: echo });
  await waitUntil(async () => (await goesOn()).status === 202, 'commands to go on', 30_000);
  const standing = async () => {
    const { items } = JSON.parse((await installation.cli(['groups', 'ls', '--json'])).stdout);
    return items.find(({ id }: { id: string }) => id === 'notifier');
  };
  await waitUntil(async () => (await standing()).lagEvents > 0, 'it to be seen behind', 30_000);
  expect((await standing()).paused).toMatchObject({ reason: 'a test' });
  expect(hook.received).toEqual([]);
  expect((await installation.cli(['groups', 'resume', 'notifier', ...why])).code).toBe(0);
  await waitUntil(() => hook.received.length > 0, 'it to react', 30_000);
  expect(hook.received.map(({ body }) => JSON.parse(body).id)).toEqual([asked.body.id]);
});

test('a group is paused and resumed from the command line; the ledger is not', async () => {
  const { installation } = await sharedSetting();
  await installation.start('projectors');
  const cli = (...args: string[]) => installation.cli(['groups', ...args]);

  expect((await cli('pause', 'notifier', '--dry-run')).stdout).toBe('notifier: would be paused\n');
  expect((await cli('pause', 'notifier', '--yes')).code).toBe(2);
  const paused = await cli('pause', 'notifier', '--reason', 'their server is moving', '--yes');
  expect(paused).toEqual({ code: 0, stdout: 'notifier: paused\n', stderr: '' });
  expect((await cli('pause', 'notifier', '--dry-run')).stdout).toBe('notifier: would stay as it is\n');
  const resumed = await cli('resume', 'notifier', '--reason', 'it has moved', '--yes', '--json');
  expect(JSON.parse(resumed.stdout)).toMatchObject({ id: 'notifier', paused: false, version: 2 });

  const refused = await cli('pause', 'ledger', '--reason', 'why not', '--yes');
  expect([refused.code, refused.stderr]).toEqual([1, expect.stringContaining('The ledger is never paused')]);
  const unknown = await cli('pause', 'nothing', '--dry-run');
  expect([unknown.code, unknown.stderr]).toEqual([1, expect.stringContaining('There is no group nothing; ')]);
});

test('a reactor is put elsewhere and back from the command line, if it is paused; a read model is not', async () => {
  const { installation } = await sharedSetting();
  await Promise.all([installation.start('api'), installation.start('projectors')]);
  const client = installation.client();
  const { token } = await client.register();
  const runAt = new Date(Date.now() + 3_600_000).toISOString();
  await client.send('POST', '/v1/jobs', { token, body: { type: 'echo', payload: {}, runAt } });
  const cli = (...args: string[]) => installation.cli(['groups', ...args]);
  const why = ['--reason', 'nobody wants to hear of these', '--yes', '--json'];

  const running = await cli('seek', 'notifier', '--to', 'end', ...why);
  expect([running.code, running.stderr]).toEqual([1, expect.stringContaining('pause it first')]);
  const model = await cli('seek', 'projection:jobs@2', '--to', 'end', ...why);
  expect([model.code, model.stderr]).toEqual([1, expect.stringContaining('projections rebuild')]);
  await cli('pause', 'notifier', ...why);
  expect((await cli('seek', 'notifier', '--undo', ...why)).stderr).toContain('No seek of notifier');
  expect((await cli('seek', 'notifier', ...why)).code).toBe(2);

  const planned = JSON.parse((await cli('seek', 'notifier', '--to', 'end', '--dry-run', '--json')).stdout);
  expect(planned.partitions.length).toBeGreaterThan(0);
  expect(planned.partitions[0]).toMatchObject({ from: 0, readAgain: 0 });
  const moved = JSON.parse((await cli('seek', 'notifier', '--to', 'end', ...why)).stdout);
  // A record of an operation is an event, too: there are more of them than when it was planned.
  expect(moved.partitions.length).toBeGreaterThanOrEqual(planned.partitions.length);
  const undone = JSON.parse((await cli('seek', 'notifier', '--undo', ...why)).stdout);
  expect(undone.partitions).toEqual(
    moved.partitions.map(({ partition, from, to }: { partition: number; from: number; to: number }) => ({
      ...{ partition, from: to, to: from, passedOver: 0, readAgain: to },
    })),
  );
});
