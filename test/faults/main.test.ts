import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';

const run = (...args: string[]) =>
  spawnSync(process.execPath, [join(import.meta.dirname, 'main.ts'), ...args], { encoding: 'utf8' });

test.each([
  ['--nope'],
  ['--seed'],
  ['--seed', 'abc'],
  ['--seed', '1.5'],
  ['--minutes', 'x'],
  ['--rate', '0'],
  ['--faults', 'nope'],
  ['--fsync', 'never'],
])(
  'the fault suite used as %s %s says so in a line and leaves with 2: 1 is for what it has counted',
  (...args) => {
    const { status, stdout, stderr } = run(...args);
    expect([status, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(/^This can't be used: .*See --help\.\n$/);
  },
);
