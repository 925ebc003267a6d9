import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { packagesMatch, refuseLink } from '../../deploy/local/packages.mjs';

type Packages = Record<string, { version?: string; optional?: boolean }>;

const WANTED: Packages = {
  '': {},
  'node_modules/a': { version: '1.0.0' },
  'node_modules/other-system': { version: '1.0.0', optional: true },
};

function checkout(installed: Packages | undefined): string {
  const root = mkdtempSync(join(tmpdir(), 'millrace-packages-'));
  onTestFinished(() => rmSync(root, { recursive: true, force: true }));
  writeFileSync(join(root, 'package-lock.json'), JSON.stringify({ packages: WANTED }));
  mkdirSync(join(root, 'node_modules'));
  if (installed)
    writeFileSync(join(root, 'node_modules', '.package-lock.json'), JSON.stringify({ packages: installed }));
  return root;
}

test('what npm has installed from this lock file is not installed again', () => {
  expect(packagesMatch(checkout({ 'node_modules/a': { version: '1.0.0' } }))).toBe(true);
});

test('a lock file that has moved on is installed', () => {
  expect(packagesMatch(checkout({ 'node_modules/a': { version: '0.9.0' } }))).toBe(false);
});

test('an install that was interrupted is begun again', () => {
  expect(packagesMatch(checkout(undefined))).toBe(false);
});

test('packages that a link borrows from another checkout are never emptied', () => {
  const root = checkout({});
  symlinkSync(join(root, 'node_modules'), join(root, 'borrowed'));
  expect(() => refuseLink(join(root, 'borrowed'))).toThrow(/is a link/);
  expect(() => refuseLink(join(root, 'node_modules'))).not.toThrow();
  expect(() => refuseLink(join(root, 'missing'))).not.toThrow();
});
