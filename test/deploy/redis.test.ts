import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { expect, onTestFinished, test } from 'vitest';
import { freePort, portIsFree, startRedis } from '../../deploy/local/servers.mjs';

type Options = Parameters<typeof startRedis>[0];

function folder(): string {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-redis-test-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

async function start(options: Options) {
  const redis = await startRedis(options);
  onTestFinished(() => redis.stop());
  return redis;
}

async function ask(url: string, ...[command = '', ...args]: string[]): Promise<unknown> {
  const client = new Redis(url);
  return client.call(command, ...args).finally(() => client.disconnect());
}

test('a private Redis answers on a loopback port, appends to a file and evicts nothing', async () => {
  const redis = await start({ dir: folder() });
  expect(new URL(redis.url).hostname).toBe('127.0.0.1');
  expect(await ask(redis.url, 'PING')).toBe('PONG');
  for (const [name, value] of [
    ['appendonly', 'yes'],
    ['maxmemory-policy', 'noeviction'],
    ['bind', '127.0.0.1'],
  ] as const) {
    expect(await ask(redis.url, 'CONFIG', 'GET', name)).toEqual([name, value]);
  }
});

test('data is kept over a stop and a start, on the same port', async () => {
  const dir = folder();
  const first = await start({ dir });
  await ask(first.url, 'SET', 'a', '1');
  await first.stop();
  const second = await start({ dir });
  expect(second.port).toBe(first.port);
  expect(await ask(second.url, 'GET', 'a')).toBe('1');
});

test('data that reached the file is kept over kill -9', async () => {
  const dir = folder();
  const first = await start({ dir, appendfsync: 'always' });
  await ask(first.url, 'SET', 'a', '1');
  await first.kill();
  await first.exited;
  const second = await start({ dir, port: first.port });
  expect(await ask(second.url, 'GET', 'a')).toBe('1');
});

test('a server that was left running is stopped by the next start in its folder', async () => {
  const dir = folder();
  const left = await start({ dir });
  await ask(left.url, 'SET', 'a', '1');
  const next = await start({ dir });
  expect(await left.exited).toBe('exit code 0');
  expect(await ask(next.url, 'GET', 'a')).toBe('1');
});

test('a stranger that has the pid of an old server is left alone', async () => {
  const dir = folder();
  writeFileSync(join(dir, 'server.json'), JSON.stringify({ pid: process.pid, port: await freePort() }));
  const redis = await start({ dir });
  expect(await ask(redis.url, 'PING')).toBe('PONG');
});

test('settings of a test reach the server', async () => {
  const redis = await start({ dir: folder(), appendonly: 'no', extra: ['--maxmemory', '12345678'] });
  expect(await ask(redis.url, 'CONFIG', 'GET', 'maxmemory')).toEqual(['maxmemory', '12345678']);
});

test('a port that another Redis holds is an error that says so, not that one', async () => {
  const redis = await start({ dir: folder() });
  await expect(startRedis({ dir: folder(), port: redis.port })).rejects.toThrow(/Address already in use/);
});

test('a free port can be listened on, and is then free no more', async () => {
  const port = await freePort();
  expect(await portIsFree(port)).toBe(true);
  await start({ dir: folder(), port });
  expect(await portIsFree(port)).toBe(false);
});
