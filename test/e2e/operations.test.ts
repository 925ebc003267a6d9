import { expect, test } from 'vitest';
import { ownRedisSetting, sharedSetting } from '../support/setting.ts';

type Item = { operation: string; target: string; by: string; reason: string; parameters: object };

test('who did what, when and why is told over HTTP and by the command line, whichever way it was done', async () => {
  const { installation } = await sharedSetting();
  await Promise.all([installation.start('api'), installation.start('projectors')]);
  const client = installation.client();
  const { token } = await installation.operator();
  const operator = (await client.send('GET', '/v1/accounts/me', { token })).body.id;
  const { token: user } = await client.register();

  expect((await installation.cli(['queues', 'pause', 'email', '--reason', 'moving', '--yes'])).code).toBe(0);
  const archive = ['ledger', 'archive', '--before', '1h', '--reason', 'the disk is small', '--yes'];
  expect(await installation.cli(archive)).toMatchObject({ code: 0, stderr: '' });
  const body = { filter: { type: 'nothing' }, reason: 'they may go' };
  await client.send('POST', '/v1/ops/dead-letters/discard', { token, body });
  const runAt = new Date(Date.now() + 3_600_000).toISOString();
  const job = await client.send('POST', '/v1/jobs', {
    token: user,
    body: { type: 'echo', payload: {}, runAt },
  });
  const other = await client.send('POST', '/v1/jobs', {
    token: user,
    body: { type: 'echo', payload: {}, runAt },
  });
  // Whoever is no operator gives none: it would stay in the events, as they wrote it, when they are erased.
  const mine = { token: user, body: { reason: 'I changed my mind' } };
  expect((await client.send('POST', `/v1/jobs/${other.body.id}/cancel`, mine)).status).toBe(403);
  expect((await client.send('POST', `/v1/jobs/${other.body.id}/cancel`, { token: user })).status).toBe(202);
  const cancel = { token, body: { reason: 'it would do harm' } };
  const last = await client.send('POST', `/v1/jobs/${job.body.id}/cancel`, cancel);
  const upTo = {
    token,
    headers: { 'consistent-with': String(last.headers.get('position')), prefer: 'wait=20' },
  };

  const listed = async (query = '') => {
    const { status, body } = await client.send('GET', `/v1/ops/operations${query}`, upTo);
    expect(status).toBe(200);
    return (body.items as Item[]).map(({ operation, target, by, reason }) => [operation, target, by, reason]);
  };
  await expect.poll(() => listed(), { timeout: 10_000 }).toHaveLength(5);
  const cli = expect.stringMatching(/^system:cli:./);
  expect(await listed()).toEqual([
    ['job.cancel', job.body.id, operator, 'it would do harm'],
    ['dead-letters.discard', 'dead-letters', operator, 'they may go'],
    ['ledger.archive', 'ledger', cli, 'the disk is small'],
    ['queue.pause', 'email', cli, 'moving'],
    ['account.create', operator, cli, 'a test'],
  ]);
  expect(await listed('?operation=queue.pause')).toHaveLength(1);
  expect(await listed('?target=ledger')).toHaveLength(1);
  expect(await listed(`?by=${operator}`)).toHaveLength(2);
  expect(await listed('?from=2100-01-01T00:00:00Z')).toEqual([]);

  const first = await client.send('GET', '/v1/ops/operations?limit=2', { token });
  const next = await client.send('GET', `/v1/ops/operations?limit=200&cursor=${first.body.nextCursor}`, {
    token,
  });
  const page = (items: unknown) => (items as Item[]).map(({ operation }) => operation);
  expect([page(first.body.items).length, page(next.body.items).length]).toEqual([2, 3]);

  const shown = await installation.cli(['ops', 'ls', '--target', 'ledger', '--json']);
  expect(JSON.parse(shown.stdout).items).toMatchObject([
    { operation: 'ledger.archive', reason: 'the disk is small', parameters: { events: 0, keep: 10_000 } },
  ]);
  const table = (await installation.cli(['ops', 'ls', '--operation', 'queue.pause'])).stdout;
  expect(table).toMatch(/WHEN \(UTC\) +WHO +OPERATION +TARGET/);
  expect(table).toMatch(/system:cli:\S+ +queue\.pause +email +moving/);

  // Its rows are of many streams, some of them with a version in their keys: verified, in part and whole, and made anew.
  for (const part of [['--since', '1h'], ['--sample', '50%'], []]) {
    expect((await installation.cli(['verify', 'operations', ...part])).code).toBe(0);
  }
  const rebuild = ['projections', 'rebuild', 'operations', '--reason', 'a test', '--yes', '--wait'];
  expect((await installation.cli(rebuild)).code).toBe(0);
  expect((await listed('?operation=queue.pause')).length).toBe(1);
  expect((await listed('?operation=projection.rebuild')).length).toBe(1);

  for (const [query, status] of [
    ['?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z', 400],
    ['?cursor=nonsense', 400],
    ['?from=yesterday', 400],
    ['?who=me', 400],
  ] as const) {
    expect([query, (await client.send('GET', `/v1/ops/operations${query}`, { token })).status]).toEqual([
      query,
      status,
    ]);
  }
  expect((await client.send('GET', '/v1/ops/operations', { token: user })).status).toBe(403);
});

test('a change by the command line that gives no reason, or whose record can’t be written, is not made', async () => {
  const { installation, world, redis } = await ownRedisSetting();
  await installation.start('projectors');
  const archive = ['ledger', 'archive', '--before', '0s', '--keep', '0'];
  expect((await installation.cli([...archive, '--yes'])).code).toBe(2);
  expect((await installation.cli([...archive, '--reason', ' ', '--yes'])).code).toBe(2);
  const create = ['accounts', 'create', '--email', 'ada@example.com', '--name', 'Ada', '--role', 'operator'];
  expect((await installation.cli(create)).code).toBe(2);
  expect((await installation.cli([...create, '--reason', 'why not'])).stderr).toContain('add --yes');
  const planned = await installation.cli([...create, '--dry-run']);
  expect(planned).toEqual({
    code: 0,
    stdout: 'ada@example.com would be registered as operator.\n',
    stderr: '',
  });
  expect(await world.db.selectFrom('ledger').select('seq').execute()).toEqual([]);

  expect((await installation.cli(['queues', 'ls'])).code).toBe(0);
  await redis.stop();
  const unrecorded = await installation.cli([...archive, '--reason', 'the disk is small', '--yes']);
  expect([unrecorded.code, unrecorded.stderr]).toEqual([3, expect.stringContaining('Nothing was done')]);
});
