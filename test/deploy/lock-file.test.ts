import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { tryLock, unlock, withLock } from '../../deploy/local/lock-file.mjs';

function file(): string {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-lock-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, 'lock');
}

test('two set-ups at once run one after the other', async () => {
  const lock = file();
  const told: string[] = [];
  const one = (name: string) =>
    withLock(lock, async () => {
      told.push(`${name} begins`);
      await new Promise((resolve) => setTimeout(resolve, 50));
      told.push(`${name} ends`);
    });
  await Promise.all([one('a'), one('b')]);
  expect(told).toEqual(['a begins', 'a ends', 'b begins', 'b ends']);
  expect(existsSync(lock)).toBe(false);
});

test('the lock of a process that has died is passed over', async () => {
  const lock = file();
  const child = spawn(process.execPath, ['--version']);
  await once(child, 'exit');
  writeFileSync(lock, JSON.stringify({ pid: child.pid, command: 'node' }));
  expect(tryLock(lock)).toBe(true);
  unlock(lock);
});

test('the lock of a pid that is another process by now is passed over', () => {
  const lock = file();
  writeFileSync(lock, JSON.stringify({ pid: process.pid, command: 'something else' }));
  expect(tryLock(lock)).toBe(true);
  expect(tryLock(lock)).toBe(false);
});
