import { expect, test } from 'vitest';
import { createPasswords } from '../../src/access/passwords.ts';

const passwords = createPasswords({ cost: 4 });

test('a password matches its own hash only', async () => {
  const hash = await passwords.hash('correct horse battery');
  expect(await passwords.matches(hash, 'correct horse battery')).toBe(true);
  expect(await passwords.matches(hash, 'correct horse batterz')).toBe(false);
});

test('characters beyond the 72 bytes that bcrypt reads count', async () => {
  const long = 'x'.repeat(100);
  const hash = await passwords.hash(`${long}a`);
  expect(await passwords.matches(hash, `${long}a`)).toBe(true);
  expect(await passwords.matches(hash, `${long}b`)).toBe(false);
  expect(await passwords.matches(hash, 'x'.repeat(72))).toBe(false);
});

test('of many-byte characters, too', async () => {
  const hash = await passwords.hash(`${'ä'.repeat(40)}1`);
  expect(await passwords.matches(hash, `${'ä'.repeat(40)}2`)).toBe(false);
});

test('the same letters typed on another system match', async () => {
  const hash = await passwords.hash('Zürich is nice');
  expect(await passwords.matches(hash, 'Zu\u0308rich is nice')).toBe(true);
});

test('without an account, no password matches, after the same work', async () => {
  const slow = createPasswords({ cost: 10 });
  const hash = await slow.hash('correct horse battery');
  await slow.matches(undefined, 'warm up');
  const time = async (of: string | undefined) => {
    const start = performance.now();
    expect(await slow.matches(of, 'wrong')).toBe(false);
    return performance.now() - start;
  };
  const known: number[] = [];
  const unknown: number[] = [];
  for (let round = 0; round < 5; round++) {
    known.push(await time(hash));
    unknown.push(await time(undefined));
  }
  // Of the least disturbed rounds; without the dummy, unknown would take a hundredth.
  expect(Math.min(...unknown) / Math.min(...known)).toBeGreaterThan(0.5);
});
