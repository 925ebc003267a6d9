import { Redis } from 'ioredis';
import { sql } from 'kysely';
import { expect, it, onTestFinished } from 'vitest';
import { createKeys } from '../../src/eventstore/partitions.ts';
import { waitUntil } from '../support/installation.ts';
import { sharedSetting } from '../support/setting.ts';

it('A ledger whose old parts lie in files is exported, verified, shown and folded anew from there', async () => {
  const { world, installation } = await sharedSetting();
  const redis = new Redis(world.redisUrl);
  onTestFinished(() => redis.disconnect());
  let roles = await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  const jobs = Array.from({ length: 20 }, (_, n) => ({ type: 'echo', payload: { n } }));
  await client.send('POST', '/v1/jobs/batch', { token, body: { jobs } });
  const succeeded = async () => {
    const { body } = await client.send('GET', '/v1/jobs?type=echo&limit=100', { token });
    return (body.items as { id: string; status: string }[]).filter(({ status }) => status === 'succeeded');
  };
  await waitUntil(async () => (await succeeded()).length === 20, 'all jobs to end');
  const [job] = await succeeded();
  const historyOf = async () =>
    (await client.send('GET', `/v1/jobs/${job?.id}/events`, { token })).body.items;
  const history = await historyOf();
  await waitUntil(async () => {
    const behind = await sql`
      SELECT FROM checkpoints AS c JOIN checkpoints AS l ON l.partition = c.partition AND l.group_name = 'ledger'
      WHERE c.seq <> l.seq`.execute(world.db);
    return behind.rows.length === 0;
  }, 'the ledger to have it all');

  const plan = await installation.cli([
    'ledger',
    'archive',
    '--before',
    '0s',
    '--keep',
    '0',
    '--dry-run',
    '--json',
  ]);
  const { events } = JSON.parse(plan.stdout) as { events: number };
  expect(events).toBeGreaterThan(20);
  const told = await installation.cli(['ledger', 'archive', '--before', '0s', '--keep', '0', '--yes']);
  expect([told.code, told.stderr]).toEqual([2, expect.stringContaining('--reason is missing')]);
  const args = ['--before', '0s', '--keep', '0', '--reason', 'a drill', '--yes', '--json'];
  expect(await installation.cli(['ledger', 'archive', ...args])).toMatchObject({ code: 0, stderr: '' });
  const listed = await installation.cli(['ledger', 'ls', '--json']);
  const { items } = JSON.parse(listed.stdout) as {
    items: { events: number; reason: string; finished: boolean }[];
  };
  // The record of it is an event as well: what was its partition's last batch can go, too, by then.
  expect(items.reduce((sum, item) => sum + item.events, 0)).toBeGreaterThanOrEqual(events);
  expect(items.every(({ reason, finished }) => reason === 'a drill' && finished)).toBe(true);

  // With the log as short as it can be, whoever begins at 0 must read files, then the table, then the log.
  await Promise.all(Object.values(roles).map((role) => role.stop()));
  for (const { log } of createKeys(world.prefix, 4)) await redis.xtrim(log, 'MAXLEN', 1);
  await sql`TRUNCATE jobs_v2_g1; DELETE FROM checkpoints WHERE group_name = 'projection:jobs@2'`.execute(
    world.db,
  );
  roles = await installation.startAll();
  await waitUntil(async () => (await succeeded()).length === 20, 'the read model to be folded anew');
  expect(await historyOf()).toEqual(history);
  const shown = await installation.cli(['jobs', 'show', job?.id ?? '', '--json']);
  expect((JSON.parse(shown.stdout) as { events: unknown[] }).events).toHaveLength(
    (history as unknown[]).length,
  );

  const { headers } = await client.send('POST', '/v1/exports', {
    token,
    body: { dataset: 'events', format: 'ndjson' },
  });
  await waitUntil(async () => {
    const { body } = await client.send('GET', headers.get('location') ?? '', { token });
    if (body.status !== 'succeeded') return false;
    // Registered, 20 jobs with two or more events each, and the export's own request.
    expect(body.rows).toBeGreaterThan(40);
    return true;
  }, 'an export of files and table');
  await waitUntil(
    async () => (await installation.cli(['verify', '--json'])).code === 0,
    'ledger, log and read models to be right',
  );
  expect((await installation.cli(['verify', '--sample', '100%'])).code).toBe(0);
  expect((await installation.cli(['verify', '--since', '1h'])).code).toBe(0);
});
