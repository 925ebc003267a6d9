import { expect, test } from 'vitest';
import { createHmacs, readSigned, signText } from '../../src/access/signing.ts';

const hmac = createHmacs(Buffer.alloc(32, 1));

test('what we signed comes back, for the purpose it was signed for', () => {
  const signed = signText(hmac, 'cursor', '{"a":"ä"}');
  expect(readSigned(hmac, 'cursor', signed)).toBe('{"a":"ä"}');
  expect(readSigned(hmac, 'ticket', signed)).toBeUndefined();
  expect(readSigned(createHmacs(Buffer.alloc(32, 2)), 'cursor', signed)).toBeUndefined();
});

test.each(['', '.', 'a', 'a.b', 'a.b.c', 'e30.AAAA', `${'e30.'}${'A'.repeat(24)}`])(
  '%j is not ours',
  (text) => {
    expect(readSigned(hmac, 'cursor', text)).toBeUndefined();
  },
);

test('a key that is too short is refused', () => {
  expect(() => createHmacs(Buffer.alloc(16))).toThrow('at least 32 bytes');
});
