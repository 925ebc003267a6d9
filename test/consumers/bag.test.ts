import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Bag, NOWHERE } from '../../src/consumers/bag.ts';

describe('a bag', () => {
  it('holds what a set would, whatever comes and goes', () => {
    const step = fc.record({ put: fc.boolean(), which: fc.nat({ max: 20 }) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
        const items = Array.from({ length: 21 }, (_, id) => ({ id, place: NOWHERE }));
        const [bag, set] = [new Bag<{ id: number; place: number }>(), new Set<object>()];
        for (const { put, which } of steps) {
          const item = items[which];
          if (!item) continue;
          if (!put) {
            bag.delete(item);
            set.delete(item);
          } else if (!set.has(item)) {
            bag.add(item);
            set.add(item);
          }
          expect(bag.size).toBe(set.size);
          expect(new Set(bag)).toEqual(set);
        }
      }),
    );
  });
});
