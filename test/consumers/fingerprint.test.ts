import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { fingerprint, fingerprintForAll } from '../../src/consumers/fingerprint.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));
const error = (stack: string, more: { name?: string; message?: string; code?: string } = {}) => ({
  name: 'TypeError',
  message: 'no luck',
  stack: `TypeError: no luck\n${stack}`,
  ...more,
});
const at = (called: string, file: string, line = 1) => `    at ${called} (${root}${file}:${line}:17)`;

it('A fingerprint stays the same wherever a line moves, whatever ids a message holds, and wherever a job runs', () => {
  const here = fingerprint(error(at('Object.shrink', 'src/consumers/thumbnail.ts', 10)));
  expect(here).toMatch(/^[0-9a-f]{16}$/);
  for (const same of [
    error(at('shrink', 'src/consumers/thumbnail.ts', 99), { message: 'no luck with job-00abc' }),
    error(`    at async shrink (file://${root}src/consumers/thumbnail.ts:3:1)`),
    error(
      [
        at('shrink', 'src/consumers/thumbnail.ts'),
        '    at async process.processTicksAndRejections (node:internal/process/task_queues:105:5)',
        at('callHandler', 'src/consumers/in-process.ts'),
        at('something', 'src/else.ts'),
      ].join('\n'),
    ),
    error(
      `    at Sharp.resize (${root}node_modules/sharp/lib/resize.js:1:1)\n${at('shrink', 'src/consumers/thumbnail.ts')}`,
    ),
  ]) {
    expect(fingerprint(same)).toBe(here);
  }
});

it('A fingerprint is another for another kind of error, and at another place', () => {
  const place = at('shrink', 'src/consumers/thumbnail.ts');
  const others = [
    error(place),
    error(place, { name: 'RangeError' }),
    error(place, { code: 'ECONNREFUSED' }),
    error(at('grow', 'src/consumers/thumbnail.ts')),
    error(at('shrink', 'src/consumers/poster.ts')),
  ];
  expect(new Set(others.map(fingerprint)).size).toBe(others.length);
});

it('A fingerprint of what has no place goes by its message, without ids and numbers', () => {
  const of = (message: string) => fingerprint({ name: 'Error', message });
  expect(of('order 17 of "Ada" (job-00a1b2) timed out')).toBe(of('order 4 of "Bob" (job-0fzz99) timed out'));
  expect(of('order 17 timed out')).not.toBe(of('order 17 was refused'));
});

it('A fingerprint that all may see says nothing of a message that its owner alone may', () => {
  const of = (name: string, message: string, stack?: string) =>
    fingerprintForAll({ name, stack, fingerprint: fingerprint({ name, message, stack }) });
  expect(of('Error', 'no letter for Ada')).toBe(of('Error', 'no letter for Bob'));
  expect(of('Error', 'no letter for Ada')).not.toBe(of('RangeError', 'no letter for Ada'));
  const elsewhere = 'Error: no letter for Ada\n    at f (/elsewhere/f.ts:1:1)';
  const caused = `${elsewhere}\ncaused by: Error: x\n${at('shrink', 'src/consumers/thumbnail.ts')}`;
  expect(of('Error', 'no letter for Ada', caused)).toBe(of('Error', 'no letter for Bob'));
  const { name, message, stack } = error(at('shrink', 'src/consumers/thumbnail.ts'));
  expect(of(name, message, stack)).toBe(fingerprint({ name, message, stack }));
});
