import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Client } from '../support/client.ts';
import { createInstallation, type Installation, waitUntil } from '../support/installation.ts';
import { createWorld, type World } from '../support/world.ts';

let world: World;
let installation: Installation;
let client: Client;
let token: string;
let owner: string;

beforeAll(async () => {
  world = await createWorld();
  const { redisUrl, databaseUrl, prefix } = world;
  const environment = {
    HTTP_REQUEST_ALLOW: 'http://localhost:*',
    HTTP_REQUEST_ALLOW_PRIVATE: '127.0.0.0/8, ::1/128',
  };
  installation = await createInstallation({ redisUrl, databaseUrl, prefix, environment });
  await installation.startAll();
  client = installation.client();
  ({ token, id: owner } = await client.register());
});
afterAll(async () => {
  await installation?.dispose();
  await world?.dispose();
});

const cli = (...args: string[]) => installation.cli(['dead-letters', ...args]);
const listed = async (...args: string[]) => JSON.parse((await cli('ls', '--json', ...args)).stdout).items;

/** Jobs that fail for good, as nobody listens where they go; answered once they are dead letters, the oldest first. */
async function dead(count: number): Promise<string[]> {
  const ids: string[] = [];
  for (let index = 0; index < count; index++) {
    const body = { type: 'http.request', payload: { url: 'http://localhost:1/' }, maxAttempts: 1 };
    const asked = await client.send('POST', '/v1/jobs', { token, body });
    expect(asked.status).toBe(202);
    ids.push(String(asked.body.id));
  }
  await waitUntil(async () => {
    const rows = await world.db.selectFrom('dead_letters_v1').select('id').where('id', 'in', ids).execute();
    return rows.length === count;
  }, 'the jobs to fail for good');
  return ids;
}

test('dead letters are listed by what they died of, and each is shown with its attempts', async () => {
  const [id = ''] = await dead(1);
  const { code, stdout } = await cli('ls');
  expect(code).toBe(0);
  const [header = '', ...rows] = stdout.trimEnd().split('\n');
  expect(header.split(/ {2,}/).slice(0, 5)).toEqual(['ID', 'TYPE', 'QUEUE', 'STATUS', 'DIED OF']);
  const row = rows.find((line) => line.startsWith(id)) ?? '';
  expect(row.split(/ {2,}/).slice(0, 5)).toEqual([id, 'http.request', 'webhooks', 'dead', 'attempts']);

  const [letter] = await listed('--died-of', 'attempts', '--owner', owner, '--limit', '1');
  expect(letter).toMatchObject({ id, status: 'dead', deaths: 1, error: { fingerprint: expect.any(String) } });
  expect(await listed('--fingerprint', letter.error.fingerprint)).toHaveLength(1);
  for (const none of [
    ['--died-of', 'takedowns'],
    ['--status', 'discarded'],
    ['--type', 'echo'],
  ]) {
    expect(await listed(...none)).toEqual([]);
  }

  const shown = await cli('show', id);
  expect(shown.stdout).toMatch(/died of +attempts/);
  expect(shown.stdout).toMatch(/ATTEMPT +FAILED \(UTC\) +WORKER/);
  const { failures } = JSON.parse((await cli('show', id, '--json')).stdout);
  expect(failures).toMatchObject([{ attempt: 1, final: true, worker: expect.any(String) }]);
  const mistyped = await cli('redrive', id.slice(0, 8), '--reason', 'a mistake', '--yes');
  expect([mistyped.code, mistyped.stdout]).toEqual([2, '']);
  const none = await cli('show', 'job-00aaaaaaaaaaaaaaaaaaaa');
  expect([none.code, none.stdout]).toEqual([1, '']);
});

test('dead letters are redriven by a job that can be followed; with --dry-run only counted', async () => {
  const ids = await dead(3);
  const planned = await cli('redrive', ...ids, '--dry-run');
  expect(planned).toMatchObject({ code: 0, stderr: '' });
  expect(planned.stdout).toBe(`3 dead letters would be redriven:\n${ids.map((id) => `  ${id}\n`).join('')}`);
  const json = JSON.parse(
    (await cli('discard', ...ids, 'job-00aaaaaaaaaaaaaaaaaaaa', '--dry-run', '--json')).stdout,
  );
  expect(json).toEqual({ dryRun: true, count: 3, sample: ids.map((id) => ({ id, status: 'dead' })) });
  expect(await listed('--owner', owner)).toHaveLength((await listed()).length);

  const { code, stdout } = await cli('redrive', ...ids, '--reason', 'again', '--yes', '--follow');
  expect(code).toBe(0);
  expect(stdout).toMatch(/^job-\w+ goes through them\.\n/);
  expect(JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '')).toEqual({ done: 3, failed: 0, total: 3 });
  // They fail again, as before.
  await waitUntil(
    async () => {
      const letters = await listed('--owner', owner);
      return ids.every((id) =>
        letters.some((letter: { id: string; deaths: number }) => letter.id === id && letter.deaths === 2),
      );
    },
    'them to die again',
    30_000,
  );

  const discarded = await cli(
    'discard',
    '--owner',
    owner,
    '--reason',
    'enough',
    '--yes',
    '--json',
    '--follow',
  );
  expect(discarded.code).toBe(0);
  const lines = discarded.stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line));
  expect(lines[0]).toMatchObject({ id: expect.stringMatching(/^job-/), position: expect.any(String) });
  expect(lines.at(-1)).toMatchObject({ type: 'JobCompleted', data: { result: { failed: 0 } } });
  await waitUntil(async () => (await listed('--owner', owner)).length === 0, 'no letter to be left');
  const [letter] = await listed('--status', 'discarded', '--limit', '1');
  expect(letter).toMatchObject({ settledFor: 'enough', settledBy: expect.stringMatching(/^system:cli:/) });
});

test.each([
  [['redrive', '--reason', 'x', '--yes'], /Say which/],
  [['discard', '--all', '--type', 'echo', '--reason', 'x', '--yes'], /--all goes without/],
  [['redrive', '--all', '--yes'], /--reason/],
  [['discard', '--all', '--reason', 'x'], /--yes/],
  [['redrive', '--all', '--reason', 'x', '--yes', '--rate', '0'], /1 to 1000/],
])('what is not clear is refused: %j', async (args, said) => {
  const { code, stdout, stderr } = await cli(...args);
  expect([code, stdout]).toEqual([2, '']);
  expect(stderr).toMatch(said);
});
