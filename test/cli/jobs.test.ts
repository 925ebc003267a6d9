import { userInfo } from 'node:os';
import { sql } from 'kysely';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Client, Person } from '../support/client.ts';
import { createInstallation, type Installation, waitUntil } from '../support/installation.ts';
import { createWorld, type World } from '../support/world.ts';

// The command line as a process, on the real thing: one installation for all of it.
let world: World;
let installation: Installation;
let client: Client;
let ada: Person;

beforeAll(async () => {
  world = await createWorld();
  const { redisUrl, databaseUrl, prefix } = world;
  installation = await createInstallation({ redisUrl, databaseUrl, prefix });
  await installation.startAll();
  client = installation.client();
  ada = await client.register();
});
afterAll(async () => {
  await installation?.dispose();
  await world?.dispose();
});

const cli = (...args: string[]) => installation.cli(args);
const inAnHour = () => new Date(Date.now() + 3_600_000).toISOString();

/** Enqueues a job of Ada's, and waits until the read model has it. */
async function enqueue(more: object = {}): Promise<string> {
  const body = { type: 'echo', payload: { hello: 'world' }, ...more };
  const asked = await client.send('POST', '/v1/jobs', { token: ada.token, body });
  expect(asked.status).toBe(202);
  const id = String(asked.body.id);
  const headers = { 'consistent-with': String(asked.headers.get('position')), prefer: 'wait=20' };
  expect((await client.send('GET', `/v1/jobs/${id}`, { token: ada.token, headers })).status).toBe(200);
  return id;
}

async function ended(id: string): Promise<void> {
  await waitUntil(async () => {
    const { body } = await client.send('GET', `/v1/jobs/${id}`, { token: ada.token });
    return ['succeeded', 'failed', 'cancelled'].includes(String(body.status));
  }, 'the job to end');
}

const eventsOf = async (id: string) =>
  (await client.send('GET', `/v1/jobs/${id}/events`, { token: ada.token })).body.items;

describe('millrace jobs ls', () => {
  test('lists the jobs of all accounts as a table, narrowed as asked', async () => {
    const id = await enqueue({ runAt: inAnHour() });
    const { code, stdout, stderr } = await cli('jobs', 'ls', '--status', 'scheduled');
    expect([code, stderr]).toEqual([0, '']);
    const [header = '', ...rows] = stdout.trimEnd().split('\n');
    expect(header.split(/ {2,}/).slice(0, 4)).toEqual(['ID', 'TYPE', 'QUEUE', 'STATUS']);
    const row = rows.find((line) => line.startsWith(id)) ?? '';
    expect(row.split(/ {2,}/).slice(0, 4)).toEqual([id, 'echo', 'default', 'scheduled']);
    expect(row.indexOf('scheduled')).toBe(header.indexOf('STATUS'));
    expect(stdout).not.toContain('\x1b');
    expect((await cli('jobs', 'ls', '--type', 'nothing')).stdout).toBe('');
    expect((await cli('jobs', 'ls', '--from', '2h', '--owner', ada.id)).stdout).toContain(id);
    expect((await cli('jobs', 'ls', '--to', '2026-01-01T00:00:00Z')).stdout).toBe('');
  });

  test('prints JSON, a page at a time or all, with cursors that are the API’s', async () => {
    const ids = [await enqueue({ runAt: inAnHour() }), await enqueue({ runAt: inAnHour() })];
    const listing = ['jobs', 'ls', '--status', 'scheduled', '--json'];
    const first = JSON.parse((await cli(...listing, '--limit', '1')).stdout);
    expect(first.items).toHaveLength(1);
    expect(first.items[0]).toMatchObject({ id: ids[1], type: 'echo', status: 'scheduled', version: 1 });
    const second = JSON.parse((await cli(...listing, '--limit', '1', '--cursor', first.nextCursor)).stdout);
    expect(second.items[0].id).toBe(ids[0]);
    const path = `/v1/jobs?status=scheduled&limit=1&cursor=${encodeURIComponent(first.nextCursor)}`;
    const { body } = await client.send('GET', path, { token: ada.token });
    expect(body.items).toEqual(second.items);
    const all = JSON.parse((await cli(...listing, '--all')).stdout);
    expect(all.items.slice(0, 2).map((job: { id: string }) => job.id)).toEqual(ids.toReversed());
    expect(all.nextCursor).toBeUndefined();
  });

  test.each([
    ['--status', 'asleep'],
    ['--limit', '201'],
    ['--from', 'yesterday'],
    ['--cursor', 'x'],
  ])('refuses %s %s: 2', async (option, value) => {
    const { code, stdout, stderr } = await cli('jobs', 'ls', option, value);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).not.toBe('');
  });
});

describe('millrace jobs show', () => {
  test('shows a job with all that happened to it, for people and for programs', async () => {
    const id = await enqueue();
    await ended(id);
    await waitUntil(
      async () => (await cli('jobs', 'show', id)).stdout.includes('JobCompleted'),
      'the ledger',
    );
    const { code, stdout } = await cli('jobs', 'show', id);
    expect(code).toBe(0);
    expect(stdout).toMatch(/status +succeeded/);
    expect(stdout).toMatch(/1 {2}\d{4}-\d\d-\d\d \d\d:\d\d:\d\d {2}JobEnqueued {2,}/);
    const job = JSON.parse((await cli('jobs', 'show', id, '--json')).stdout);
    expect(job).toMatchObject({ id, status: 'succeeded', result: { hello: 'world' } });
    expect(job.events).toEqual(await eventsOf(id));
  });

  test.each(['job-00aaaaaaaaaaaaaaaaaaaa', 'nonsense'])('of %s, which is not there, fails: 1', async (id) => {
    const { code, stdout, stderr } = await cli('jobs', 'show', id);
    expect([code, stdout, stderr]).toEqual([1, '', `There is no job ${id}.\n`]);
  });
});

describe('millrace jobs watch', () => {
  test('says what happens, a line for each event, and leaves with 0 when the job has succeeded', async () => {
    const id = await enqueue({ runAt: new Date(Date.now() + 2_000).toISOString() });
    const { code, stdout } = await cli('jobs', 'watch', id);
    expect(code).toBe(0);
    const types = stdout
      .trimEnd()
      .split('\n')
      .map((line) => line.split(/ {2}/)[1]);
    expect(types).toEqual(['JobEnqueued', 'JobStarted', 'JobCompleted']);
  });

  test('prints events as lines of JSON, and leaves with 1 when the job was cancelled', async () => {
    const id = await enqueue({ runAt: inAnHour() });
    const watching = cli('jobs', 'watch', id, '--json');
    await cli('jobs', 'cancel', id, '--reason', 'not needed', '--yes');
    const { code, stdout, stderr } = await watching;
    expect([code, stderr]).toEqual([1, `${id} was cancelled\n`]);
    const events = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(events.map(({ type }) => type)).toEqual(['JobEnqueued', 'JobCancelled']);
    expect(events[1]).toMatchObject({ version: 2, reason: 'not needed' });
  });

  test('of a job that is not there fails: 1', async () => {
    const { code, stderr } = await cli('jobs', 'watch', 'job-00aaaaaaaaaaaaaaaaaaaa');
    expect([code, stderr]).toEqual([1, 'There is no job job-00aaaaaaaaaaaaaaaaaaaa.\n']);
  });
});

describe('millrace jobs cancel and retry', () => {
  test('change a job, and its events say who did it and why; to their owner they belong as before', async () => {
    const id = await enqueue({ runAt: inAnHour() });
    const cancelled = await cli('jobs', 'cancel', id, '--reason', 'sent twice', '--yes');
    expect(cancelled).toEqual({ code: 0, stdout: `${id}: cancelled, version 2\n`, stderr: '' });
    const retried = await cli('jobs', 'retry', id, '--reason', 'it was not', '--yes', '--json');
    expect(JSON.parse(retried.stdout)).toMatchObject({ id, version: 3, position: expect.any(String) });
    await ended(id);
    const actor = `system:cli:${userInfo().username}`;
    expect(((await eventsOf(id)) as { actor: string }[]).slice(1, 3).map((event) => event.actor)).toEqual([
      actor,
      actor,
    ]);
    const { rows } = await sql<{ meta: string }>`
      SELECT meta FROM ledger WHERE stream_id = ${id} AND version = 2`.execute(world.db);
    expect(JSON.parse(rows[0]?.meta ?? '{}')).toMatchObject({ actor, reason: 'sent twice', owner: ada.id });
  });

  test('say with --dry-run what would happen, and write nothing', async () => {
    const id = await enqueue({ runAt: inAnHour() });
    const plan = await cli('jobs', 'cancel', id, '--dry-run');
    expect(plan).toEqual({ code: 0, stdout: `${id}: would write JobCancelled\n`, stderr: '' });
    const json = await cli('jobs', 'cancel', id, '--dry-run', '--json');
    expect(JSON.parse(json.stdout)).toEqual({ id, dryRun: true, events: ['JobCancelled'] });
    const refused = await cli('jobs', 'retry', id, '--dry-run');
    expect([refused.code, refused.stdout]).toEqual([1, '']);
    expect(refused.stderr).toContain('Only a job that failed or was cancelled can be retried');
    expect(await eventsOf(id)).toHaveLength(1);
  });

  test('ask first: without a terminal, and without --yes, nothing is done: 2', async () => {
    const id = await enqueue({ runAt: inAnHour() });
    for (const [args, said] of [
      [['--reason', 'x'], /--yes/],
      [['--yes'], /--reason/],
      [['--yes', '--reason', ' '], /--reason/],
      [['--yes', '--reason', 'x'.repeat(501)], /500/],
    ] as const) {
      const { code, stdout, stderr } = await cli('jobs', 'cancel', id, ...args);
      expect([code, stdout]).toEqual([2, '']);
      expect(stderr).toMatch(said);
    }
    expect(await eventsOf(id)).toHaveLength(1);
  });

  test('of several jobs each has its outcome, and one that is refused makes it 1', async () => {
    const ids = [await enqueue({ runAt: inAnHour() }), await enqueue({ runAt: inAnHour() })];
    const args = ['--reason', 'x', '--yes', '--json'];
    const { code, stdout, stderr } = await cli(
      'jobs',
      'cancel',
      ids[0] ?? '',
      'nonsense',
      ids[1] ?? '',
      ...args,
    );
    expect(code).toBe(1);
    expect(stderr).toBe('1 of 3 jobs were refused.\n');
    const lines = stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines).toMatchObject([
      { id: ids[0], status: 'cancelled' },
      { id: 'nonsense', error: { code: 'not_found' } },
      { id: ids[1], status: 'cancelled' },
    ]);
  });
});

test('where something that it needs is away, a command says so and leaves with 3; reading needs no Redis', async () => {
  const id = await enqueue({ runAt: inAnHour() });
  const { redisUrl, databaseUrl, prefix } = world;
  const without = async (environment: Record<string, string>, ...args: string[]) => {
    // The same people, so the same key to what they say.
    const { MASTER_KEY = '' } = installation.environment;
    const settings = { redisUrl, databaseUrl, prefix, environment: { MASTER_KEY, ...environment } };
    const away = await createInstallation(settings);
    return away.cli(args).finally(() => away.dispose());
  };
  const noRedis = { REDIS_URL: 'redis://:hush@127.0.0.1:1/0' };
  const noPostgres = { DATABASE_URL: 'postgres://nobody:hush@127.0.0.1:1/none' };
  expect(await without(noRedis, 'jobs', 'show', id)).toMatchObject({ code: 0, stderr: '' });
  const cancel = ['jobs', 'cancel', id, '--reason', 'x', '--yes'];
  for (const environment of [noRedis, noPostgres]) {
    const { code, stdout, stderr } = await without(environment, ...cancel);
    expect([code, stdout]).toEqual([3, '']);
    // Which server, and why; nothing that opens it, and none of our insides.
    expect(stderr).toMatch(/ECONNREFUSED 127\.0\.0\.1:1$/m);
    expect(stderr).not.toMatch(/hush|^ +at /m);
  }
  for (const what of ['jobs', 'projections']) expect((await without(noPostgres, what, 'ls')).code).toBe(3);
});

test('the version is told', async () => {
  expect(await cli('--version')).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^\d+\.\d+\.\d+\n$/),
  });
});

test('every command has help with an example', async () => {
  for (const name of ['ls', 'show', 'watch', 'cancel', 'retry']) {
    const { code, stdout } = await cli('jobs', name, '--help');
    expect(code).toBe(0);
    expect(stdout).toContain(`millrace jobs ${name} `);
    expect(stdout).toContain('Examples:');
  }
});
