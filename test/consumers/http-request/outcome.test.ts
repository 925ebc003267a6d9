import { describe, expect, test } from 'vitest';
import { retryAfterMs } from '../../../src/consumers/http-request/outcome.ts';

describe('Retry-After', () => {
  const now = Date.parse('2026-11-21T10:00:00Z');
  test.each([
    ['120', 120_000],
    [' 0 ', 0],
    ['Sat, 21 Nov 2026 10:00:30 GMT', 30_000],
    ['Sat, 21 Nov 2026 09:00:00 GMT', 0],
    ['99999999999999999999', 24 * 3_600_000],
    ['Fri, 21 Nov 2036 10:00:00 GMT', 24 * 3_600_000],
    ['soon', 0],
    ['-5', 0],
    ['', 0],
    [undefined, 0],
  ])('of %j is %i ms', (header, ms) => expect(retryAfterMs(header, now)).toBe(ms));
});
