import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { waitUntil } from '../support/installation.ts';
import { ownRedisSetting, sharedSetting } from '../support/setting.ts';

type Share = { partition: number; owner?: string; position?: number; target?: number; lagEvents?: number };
type Group = {
  id: string;
  kind: string;
  members: string[];
  owned: number;
  lagEvents?: number;
  lagSeconds?: number;
  parked?: number;
  paused?: object;
  shares: Share[];
};

const echo = { type: 'echo', payload: {} };

test('operators see where everything stands: servers, partitions, groups, processes and read models', async () => {
  const { installation, world } = await sharedSetting();
  const { projectors } = await installation.startAll();
  const client = installation.client();
  const { token } = await installation.operator();
  const { token: user } = await client.register();
  const read = async (path: string) => {
    const { status, body } = await client.send('GET', `/v1/ops/${path}`, { token });
    expect([path, status]).toEqual([path, 200]);
    return body;
  };
  const group = async (id: string) => (await read(`groups/${encodeURIComponent(id)}`)) as unknown as Group;
  const enqueue = () => client.send('POST', '/v1/jobs', { token: user, body: echo });
  for (let n = 0; n < 10; n++) await enqueue();
  await waitUntil(async () => (await group('ledger')).lagEvents === 0, 'the ledger to have it all');
  await waitUntil(async () => (await group('projection:jobs@2')).lagEvents === 0, 'jobs to be there');

  const overview = await read('overview');
  expect(overview).toMatchObject({
    redis: { ok: true },
    postgres: { ok: true },
    commits: { stopped: false },
    partitions: 4,
    parked: 0,
    processes: { api: 1, projectors: 1, workers: 1 },
    rebuilding: [],
  });
  const partitions = (await read('partitions')).items as {
    head: number;
    ledger: number;
    owners: Record<string, string>;
  }[];
  expect(partitions).toHaveLength(4);
  expect(partitions.reduce((sum, { head }) => sum + head, 0)).toBe(overview.events);
  expect(partitions[0]?.owners.ledger).toMatch(/#/);
  const ledger = await group('ledger');
  expect(ledger).toMatchObject({ kind: 'ledger', owned: 4, lagEvents: 0, lagSeconds: 0 });
  expect(ledger.shares.map(({ owner }) => owner)).toEqual(partitions.map(({ owners }) => owners.ledger));
  expect(ledger.members).toEqual([ledger.shares[0]?.owner]);
  await waitUntil(async () => (await group('notifier')).lagEvents === 0, 'the notifier to have read all');
  expect(await group('notifier')).toMatchObject({ kind: 'reactor', owned: 4, lagSeconds: 0 });
  const lane = ((await read('groups')).items as Group[]).find(({ kind }) => kind === 'work');
  expect(lane).toMatchObject({ owned: 4, pending: expect.any(Number) });
  expect(lane).not.toHaveProperty('lagEvents');
  const workers = (await read('workers')).items as {
    role: string;
    member: string;
    leases: number;
    groups: string[];
  }[];
  expect(workers.map(({ role }) => role).sort()).toEqual(['api', 'projectors', 'workers']);
  expect(workers.find(({ role }) => role === 'projectors')).toMatchObject({ member: ledger.members[0] });
  const models = (await read('projections')).items as (Group & {
    version: number;
    position: number;
    target: number;
  })[];
  expect(models.find(({ id }) => id === 'jobs')).toMatchObject({
    version: 2,
    lagEvents: 0,
    position: overview.events,
  });

  // Nobody projects: how far it is behind is said in events and in seconds.
  await projectors.stop();
  const before = Number((await read('overview')).events);
  for (let n = 0; n < 5; n++) await enqueue();
  const [event] = await world.db.selectFrom('ledger').selectAll().limit(1).execute();
  await world.db
    .insertInto('parked_events')
    .values({
      group_name: 'projection:jobs@2',
      partition: 0,
      seq: 1,
      epoch: 1,
      row_key: event?.stream_id ?? '',
      error: 'no',
    })
    .execute();
  const status = await installation.cli(['status', '--json']);
  const told = JSON.parse(status.stdout) as { problems: string[]; groups: Group[]; queues: object[] };
  const behind = told.groups.find(({ id }) => id === 'projection:jobs@2');
  const now = Number((await read('overview')).events);
  expect(now).toBeGreaterThanOrEqual(before + 5);
  expect(behind).toMatchObject({ members: [], owned: 0, parked: 1 });
  expect(behind?.lagEvents).toBeGreaterThanOrEqual(5);
  expect(behind?.lagSeconds).toBeGreaterThan(0);
  expect(status.code).toBe(1);
  expect(told.problems.join('\n')).toMatch(
    /No process runs the role projectors[\s\S]*jobs: 1 events could not be applied, 1 rows/,
  );
  expect(told.queues).toHaveLength(4);
  const table = (await installation.cli(['status'])).stdout;
  expect(table).toMatch(/commits +go on/);
  expect(table).toMatch(/projection:jobs@2 +projection +nobody +0 of 4 +0 +\d+ +\d+ s +1/);
  const list = (await installation.cli(['projections', 'ls'])).stdout;
  const [, position, target, lag] =
    /^jobs +2 +\S+ +(\d+) +(\d+) +(\d+) +\d+ s +1 in 1 rows +live$/m.exec(list) ?? [];
  expect([Number(target) - Number(position), Number(lag) > 0]).toEqual([Number(lag), true]);
  expect((await installation.cli(['groups', 'ls'])).stdout).toMatch(/^ledger +ledger +nobody +0 of 4/m);

  expect((await client.send('GET', '/v1/ops/groups/nobody', { token })).status).toBe(404);
  for (const path of ['overview', 'partitions', 'groups', 'groups/ledger', 'workers', 'projections']) {
    expect((await client.send('GET', `/v1/ops/${path}`, { token: user })).status).toBe(403);
    expect((await client.send('GET', `/v1/ops/${path}?since=1h`, { token })).status).toBe(400);
  }
});

test('while Redis is away it is said so, and what only it knows is unknown rather than nothing', async () => {
  const { installation, redis } = await ownRedisSetting();
  await installation.start('api');
  const client = installation.client();
  const { token } = await installation.operator();
  await redis.stop();
  await waitUntil(async () => {
    const { body } = await client.send('GET', '/v1/ops/overview', { token });
    return (body.redis as { ok?: boolean } | undefined)?.ok === false;
  }, 'the API to notice');
  const { body } = await client.send('GET', '/v1/ops/overview', { token });
  expect(body).toMatchObject({
    postgres: { ok: true },
    commits: { stopped: true, because: expect.any(String) },
  });
  expect(body).not.toHaveProperty('events');
  for (const group of body.groups as Group[]) expect(group).not.toHaveProperty('lagEvents');
  const status = await installation.cli(['status']);
  expect([status.code, status.stdout]).toEqual([
    1,
    expect.stringMatching(/projection:jobs@2 +projection +\? +\? of 4 +\? +\? +\? +0/),
  ]);
});

test('while Postgres is away the command line says so, and what Redis knows', async () => {
  const { installation } = await sharedSetting();
  await installation.start('projectors');
  const child = spawn(process.execPath, ['src/cli/main.ts', 'status', '--json'], {
    cwd: join(import.meta.dirname, '..', '..'),
    env: {
      PATH: process.env.PATH ?? '',
      ...installation.environment,
      DATABASE_URL: 'postgres://nobody:x@127.0.0.1:1/nothing',
    },
  });
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  const told = JSON.parse(output) as {
    overview: Record<string, unknown>;
    groups: Group[];
    problems: string[];
  };
  expect(told.overview).toMatchObject({
    redis: { ok: true },
    postgres: { ok: false },
    processes: { projectors: 1 },
  });
  const jobs = told.groups.find(({ id }) => id === 'projection:jobs@2');
  expect(jobs).toMatchObject({ owned: 4, members: [expect.any(String)] });
  expect(jobs).not.toHaveProperty('lagEvents');
  expect([code, told.problems.join()]).toEqual([1, expect.stringContaining('Postgres is away')]);
});
