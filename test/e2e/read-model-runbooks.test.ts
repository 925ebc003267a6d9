import { expect, it } from 'vitest';
import { waitUntil } from '../support/installation.ts';
import { commandsOf } from '../support/runbook.ts';
import { sharedSetting } from '../support/setting.ts';
import { append, newStream, openStore } from '../support/store.ts';

it('an event that no read model can apply is found by its runbook, and a rebuild without a mend changes nothing', async () => {
  const { installation, world } = await sharedSetting();
  await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  await client.send('POST', '/v1/jobs', { token, body: { type: 'echo', payload: {} } });
  const store = await openStore(world);
  const ROW = newStream(1);
  const change = append(ROW);
  const events = change.events.map((event) => ({
    ...event,
    type: 'JobStarted',
    data: JSON.stringify({ type: 'echo', attempt: 1, worker: 'nobody' }),
  }));
  await store.commit({ partition: 1, appends: [{ ...change, events }] });
  const status = async () =>
    JSON.parse((await installation.cli(['status', '--json'])).stdout).problems as string[];
  await waitUntil(
    async () => (await status()).some((text) => text.startsWith('jobs: 1 events')),
    'it to be parked',
  );

  const commands = await commandsOf('a-poisoned-event.md');
  expect(commands).toHaveLength(5);
  const [ls, parked, show, rebuild, verify] = commands.map(
    (args) => () => installation.cli(args.map((arg) => (arg === '$ROW' ? ROW : arg))),
  );
  expect((await ls?.())?.stdout).toMatch(/^jobs .* 1 in 1 rows +live$/m);
  expect((await parked?.())?.stdout).toMatch(
    new RegExp(`^1\\.\\d+\\.\\d+ +JobStarted +${ROW} .*Error: `, 'm'),
  );
  expect((await show?.())?.stdout).toContain('JobStarted');
  // The same over the API, for operators alone.
  const asked = (name: string, who: string, query = '') =>
    client.send('GET', `/v1/ops/projections/${name}/parked${query}`, { token: who });
  const operator = await installation.operator();
  const { status: ok, body: page } = await asked('jobs', operator.token, '?limit=1');
  const items = page.items as { position: string }[];
  expect([ok, items]).toMatchObject([200, [{ type: 'JobStarted', streamId: ROW, row: ROW }]]);
  expect(Object.keys(page)).toEqual(['items']);
  expect((await asked('accounts', operator.token)).body).toEqual({ items: [] });
  expect((await asked('nothing', operator.token)).status).toBe(404);
  expect((await asked('jobs', operator.token, '?cursor=1.1.1')).status).toBe(400);
  expect((await asked('jobs', token)).status).toBe(403);
  const verified = await verify?.();
  expect([verified?.code, verified?.stdout]).toEqual([1, expect.stringContaining('parked')]);
  const rebuilt = await rebuild?.();
  expect([rebuilt?.code, rebuilt?.stdout]).toEqual([1, expect.stringMatching(/failed/)]);
  expect((await ls?.())?.stdout).toMatch(/^jobs +\d+ +jobs_v\d+_g1 /m);
});

it('a read model that stands still is found by its runbook, and goes on when it is resumed', async () => {
  const { installation } = await sharedSetting();
  await installation.startAll();
  const [ls, groups, ops, doctor] = (await commandsOf('projection-stalled.md')).map(
    (args) => () => installation.cli(args),
  );
  await installation.cli(['projections', 'pause', 'jobs', '--reason', 'a drill', '--yes']);
  const client = installation.client();
  const { token } = await client.register();
  await client.send('POST', '/v1/jobs', { token, body: { type: 'echo', payload: {} } });
  await waitUntil(
    async () => /^jobs +.* [1-9]\d* +\d+ s +0 +paused$/m.test((await ls?.())?.stdout ?? ''),
    'it to be behind',
  );
  expect((await groups?.())?.stdout).toMatch(/^projection:jobs@\d+ +projection +paused/m);
  expect((await ops?.())?.stdout).toMatch(/group\.pause +projection:jobs@\d+ +a drill/);
  expect((await doctor?.())?.stdout).toMatch(/warn +pauses +projection:jobs@\d+ since .*a drill/);
  await installation.cli(['projections', 'resume', 'jobs', '--reason', 'over', '--yes']);
  await waitUntil(async () => /^jobs .* 0 +0 +live$/m.test((await ls?.())?.stdout ?? ''), 'it to catch up');
});

it('a group that lags because nobody runs it is found by its runbook', async () => {
  const { installation } = await sharedSetting();
  const { projectors } = await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  await projectors.stop();
  await client.send('POST', '/v1/jobs', { token, body: { type: 'echo', payload: {} } });
  const [groups, status, ...rest] = await commandsOf('a-group-lags.md');
  expect(rest).toEqual([]);
  const says = async (args: readonly string[] = []) => (await installation.cli(args)).stdout;
  await waitUntil(async () => /^projection:jobs@\d+ .*[1-9]/m.test(await says(groups)), 'the lag to be seen');
  expect(await says(status)).toMatch(/projection:jobs@\d+|projectors/);
  await installation.start('projectors');
  await waitUntil(async () => !/behind/.test(await says(status)), 'it to catch up');
});
