import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { findExecutable } from '../../deploy/local/executables.mjs';
import { advice } from '../../deploy/local/redis-install.mjs';

const INSTALLER = new URL('../../deploy/local/redis-install.mjs', import.meta.url).href;
const REDIS = new URL('../../deploy/local/redis.mjs', import.meta.url).href;

/** A folder of commands that stand for a system's. */
function commands(scripts: Record<string, string>): string {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-path-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  for (const [name, body] of Object.entries(scripts)) {
    writeFileSync(join(dir, name), `#!/bin/sh\n${body}\n`);
    chmodSync(join(dir, name), 0o755);
  }
  return dir;
}

function runWith(path: string, script: string) {
  return spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    env: { PATH: path },
    encoding: 'utf8',
  });
}

test('valkey-server does as well as redis-server', () => {
  const path = commands({ 'valkey-server': 'exit 0' });
  expect(findExecutable(['redis-server', 'valkey-server'], ['/nowhere', path].join(delimiter))).toBe(
    join(path, 'valkey-server'),
  );
});

test('a folder or a file that cannot be run is no command', () => {
  const path = commands({});
  mkdirSync(join(path, 'redis-server'));
  writeFileSync(join(path, 'valkey-server'), '');
  expect(findExecutable(['redis-server', 'valkey-server'], path)).toBeUndefined();
});

test('without Redis, apt and Docker one message says what to install', () => {
  const script = `import { findOrInstallRedis } from ${JSON.stringify(INSTALLER)}; await findOrInstallRedis(console.log)`;
  const { status, stderr } = runWith(commands({ dnf: 'exit 0' }), script);
  expect(status).not.toBe(0);
  expect(stderr).toContain('neither redis-server nor valkey-server on the PATH');
  expect(stderr).toContain('sudo dnf install valkey');
  expect(stderr).toContain('REDIS_URL');
});

test('without Redis, where Docker answers, Docker is what runs it', () => {
  const script = `import { findOrInstallRedis } from ${JSON.stringify(INSTALLER)}; console.log(await findOrInstallRedis(() => {}))`;
  const { stdout } = runWith(commands({ docker: 'exit 0' }), script);
  expect(stdout.trim()).toBe('docker');
});

test('Redis in Docker listens on loopback only, and keeps its data in the folder', () => {
  const path = commands({ docker: 'test "$1" = rm || echo "docker $*"; exit 1' });
  const dir = mkdtempSync(join(tmpdir(), 'millrace-docker-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const script = `import { startRedis } from ${JSON.stringify(REDIS)};
    await startRedis({ dir: ${JSON.stringify(dir)}, port: 7001 }).catch((error) => console.log(error.message))`;
  const { stdout } = runWith(path, script);
  expect(stdout).toContain('--publish 127.0.0.1:7001:6379');
  expect(stdout).toContain(`--volume ${dir}:/data`);
  expect(stdout).toContain('--maxmemory-policy noeviction');
});

test.each([
  ['darwin', [], 'Install it: brew install redis'],
  ['linux', ['apt-get'], 'Install it: sudo apt-get install redis-server'],
  ['linux', ['apk'], 'Install it: apk add redis'],
  ['linux', ['pacman'], 'Install it: sudo pacman -S valkey'],
] as const)('on %s with %j the advice is "%s"', (platform, managers, expected) => {
  expect(advice(platform, (name) => managers.some((manager) => manager === name))).toBe(expected);
});
