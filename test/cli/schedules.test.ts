import { expect, test } from 'vitest';
import { sharedSetting } from '../support/setting.ts';

test('schedules are listed with what they run and when, as a table and as JSON', async () => {
  const { installation } = await sharedSetting();
  await Promise.all([installation.start('api'), installation.start('projectors')]);
  const client = installation.client();
  const { id: owner, token } = await client.register();
  const ids: string[] = [];
  for (const cron of ['0 9 * * MON-FRI', '@daily']) {
    const body = { cron, timezone: 'Europe/Berlin', job: { type: 'echo', payload: {} } };
    const made = await client.send('POST', '/v1/schedules', { token, body });
    ids.push(String(made.body.id));
    const headers = { 'consistent-with': String(made.headers.get('position')), prefer: 'wait=20' };
    expect((await client.send('GET', `/v1/schedules/${made.body.id}`, { token, headers })).status).toBe(200);
  }
  const cli = (...args: string[]) => installation.cli(['schedules', 'ls', ...args]);
  const { code, stdout } = await cli('--owner', owner);
  expect(code).toBe(0);
  const [header = '', ...rows] = stdout.trimEnd().split('\n');
  expect(header.split(/ {2,}/).slice(0, 5)).toEqual(['ID', 'CRON', 'TIME ZONE', 'MISSED', 'TYPE']);
  expect(rows.map((row) => row.split(/ {2,}/).slice(0, 5))).toEqual([
    [ids[1], '@daily', 'Europe/Berlin', 'skip', 'echo'],
    [ids[0], '0 9 * * MON-FRI', 'Europe/Berlin', 'skip', 'echo'],
  ]);
  const first = JSON.parse((await cli('--limit', '1', '--json')).stdout);
  const path = `/v1/schedules?cursor=${encodeURIComponent(first.nextCursor)}`;
  const { body } = await client.send('GET', path, { token });
  expect([...first.items, ...(body.items as unknown[])].map(({ id }) => id)).toEqual([ids[1], ids[0]]);
  expect((await cli('--owner', 'acc-nobody')).stdout).toBe('');
});
