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
  const { failedAttempts } = JSON.parse((await cli('show', id, '--json')).stdout);
  expect(failedAttempts).toMatchObject([{ attempt: 1, final: true, worker: expect.any(String) }]);
  const none = await cli('show', 'job-00aaaaaaaaaaaaaaaaaaaa');
  expect([none.code, none.stdout]).toEqual([1, '']);
});
