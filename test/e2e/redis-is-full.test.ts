import { execFile, spawnSync } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { Redis } from 'ioredis';
import { expect, it, onTestFinished } from 'vitest';
import { waitUntil } from '../support/installation.ts';
import { startReceiver } from '../support/receiver.ts';
import { ownRedisSetting } from '../support/setting.ts';

/** A lease lasts 15 s, and a member that is not heard of for less than that is taken for dead. */
const LOOKED_WITHIN_MS = 1_500;
const LONGER_THAN_A_LEASE_MS = 17_000;
const ROOT = join(import.meta.dirname, '..', '..');
const run = promisify(execFile);
/** Valkey's is the same; where Redis runs in Docker there may be neither. */
const redisCli = ['redis-cli', 'valkey-cli'].find((name) => !spawnSync(name, ['--version']).error);

/** Fills what is left of Redis with data of somebody else, until Redis refuses. */
async function fill(redis: Redis, piece: number): Promise<void> {
  for (let n = 0; ; n++) {
    const refused = await redis
      .set(`foreign:${piece}:${n}`, 'x'.repeat(piece))
      .catch((error: Error) => error);
    if (refused instanceof Error) return expect(refused.message).toMatch(/^OOM/);
  }
}

it('A Redis that others filled up refuses commands, loses nothing, lets jobs end, and comes back by itself', async () => {
  const {
    redis: server,
    world,
    installation,
  } = await ownRedisSetting({
    HTTP_REQUEST_ALLOW: 'http://127.0.0.1:*',
    HTTP_REQUEST_ALLOW_PRIVATE: '127.0.0.1/32',
  });
  const redis = new Redis(server.url);
  onTestFinished(() => redis.disconnect());
  const held: ServerResponse[] = [];
  const slow = await startReceiver((_, response) => void held.push(response));
  const roles = await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  const enqueue = (body: object) => client.send('POST', '/v1/jobs', { token, body });
  const statusOf = async (id: unknown) => (await client.send('GET', `/v1/jobs/${id}`, { token })).body.status;

  const running = await enqueue({ type: 'http.request', payload: { url: slow.url } });
  await waitUntil(() => held.length === 1, 'a job to run');
  const used = Number(/^used_memory:(\d+)/m.exec(await redis.info('memory'))?.[1]);
  await redis.config('SET', 'maxmemory', used + 20_000_000);
  for (const piece of [1_000_000, 10_000, 100]) await fill(redis, piece);
  await waitUntil(async () => {
    // Redis itself may refuse one before the guard has looked, and have room for the next.
    if ((await enqueue({ type: 'echo', payload: {} })).status !== 503) return false;
    await sleep(LOOKED_WITHIN_MS);
    return (await enqueue({ type: 'echo', payload: {} })).status === 503;
  }, 'commands to be refused');
  const refused = await enqueue({ type: 'echo', payload: {} });
  expect(refused).toMatchObject({ status: 503, body: { code: 'store_unavailable' } });
  expect(refused.body.detail).toContain('full');
  expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0);

  // While Redis itself refuses writes, for longer than any lease lasts, what runs goes on where it is, and ends.
  await expect(redis.set('foreign:one-more', 'x'.repeat(1_000_000))).rejects.toThrow('OOM');
  await sleep(LONGER_THAN_A_LEASE_MS);
  for (const role of Object.values(roles)) expect(await role.readyz()).toMatchObject({ status: 200 });
  expect(held).toHaveLength(1);
  held[0]?.end('late');
  await waitUntil(
    async () => (await statusOf(running.body.id)) === 'succeeded',
    'the job to end in a full Redis',
  );

  const text = await readFile(join(ROOT, 'docs/runbooks/redis-is-full.md'), 'utf8');
  const commands = [...text.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, command = '']) => command);
  const environment = {
    ...installation.environment,
    PATH: process.env.PATH ?? '',
    MORE: String(used + 200_000_000),
  };
  const sh = async (command: string | undefined) => {
    if (command === undefined) throw new Error('the page has fewer commands');
    const cli = `millrace() { node '${join(ROOT, 'src/cli/main.ts')}' "$@"; }; redis-cli() { command ${redisCli} "$@"; }`;
    const script = `set -euo pipefail\n${cli}\n${command}`;
    return (await run('bash', ['-c', script], { env: environment, timeout: 60_000 })).stdout;
  };
  const [confirm, whose, queues, mend, ...rest] = commands;
  expect(rest).toEqual([]);
  if (redisCli) {
    expect(await sh(confirm)).toMatch(/used_memory:\d+\s+maxmemory:\d+/);
    expect(await sh(whose)).toMatch(/^(foreign:\d+:\d+\n){10}$/);
    expect(await sh(queues)).toContain('default');
    expect((await sh(mend)).trim()).toBe('OK');
  } else {
    await redis.config('SET', 'maxmemory', environment.MORE);
  }
  await waitUntil(
    async () => (await enqueue({ type: 'echo', payload: {} })).status === 202,
    'commands to go on',
  );

  // And once more: full again, and this time the foreign data goes away.
  await redis.config('SET', 'maxmemory', used + 20_000_000);
  await waitUntil(
    async () => (await enqueue({ type: 'echo', payload: {} })).status === 503,
    'commands to stop again',
  );
  const foreign = await redis.keys('foreign:*');
  for (let from = 0; from < foreign.length; from += 1_000)
    await redis.unlink(foreign.slice(from, from + 1_000));
  const last: unknown[] = [];
  await waitUntil(async () => {
    const { status, body } = await enqueue({ type: 'echo', payload: {} });
    if (status === 202) last.push(body.id);
    return status === 202;
  }, 'commands to go on again');
  await waitUntil(async () => (await statusOf(last[0])) === 'succeeded', 'a job to be done as ever');
  expect((await installation.cli(['verify', 'ledger', '--json'])).code).toBe(0);
  expect(world.prefix).toBe(installation.environment.KEY_PREFIX);
});
