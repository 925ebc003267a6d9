import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isoOf } from '../../src/domain/iso.ts';

describe('a time as text', () => {
  it('is what Date writes, whatever was asked for before', () => {
    const time = fc.integer({ min: -8.64e15, max: 8.64e15 });
    const near = fc.integer({ min: 1_795_000_000_000, max: 1_795_000_004_096 });
    fc.assert(
      fc.property(fc.array(fc.oneof(time, near), { maxLength: 50 }), (all) => {
        for (const ms of all) expect(isoOf(ms)).toBe(new Date(ms).toISOString());
      }),
    );
  });

  it('of no time is a RangeError, and stays one', () => {
    for (const bad of [Number.NaN, 8.64e15 + 1, Number.NaN, 8.64e15 + 1]) {
      expect(() => isoOf(bad)).toThrow(RangeError);
    }
  });
});
