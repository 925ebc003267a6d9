import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { instanceOf, memberName, ownerOf } from '../../src/consumers/assignment.ts';

const members = (count: number) => Array.from({ length: count }, (_, i) => memberName(`host-${i}`, `n${i}`));
const names = fc.uniqueArray(fc.stringMatching(/^[a-z0-9#-]{1,12}$/), { minLength: 1, maxLength: 8 });
const owners = (of: readonly string[], partitions = 64) =>
  Array.from({ length: partitions }, (_, partition) => ownerOf(partition, of));

describe('Partitions are assigned', () => {
  it('evenly, to every number of members', () => {
    for (const count of [2, 3, 5, 8]) {
      const of = members(count);
      const share = 1024 / count;
      const counts = Map.groupBy(owners(of, 1024), (owner) => owner);
      for (const member of of) {
        expect(counts.get(member)?.length).toBeGreaterThan(share * 0.7);
        expect(counts.get(member)?.length).toBeLessThan(share * 1.3);
      }
    }
  });

  it('alike by every process, whatever the order in which it sees the members', () => {
    fc.assert(
      fc.property(names, (instances) => {
        const of = instances.map((instance) => memberName(instance, 'n'));
        expect(owners(of.toReversed())).toEqual(owners(of));
      }),
    );
  });

  it('so that a member that leaves moves only its own partitions', () => {
    fc.assert(
      fc.property(names, fc.nat(), (instances, pick) => {
        const of = instances.map((instance) => memberName(instance, 'n'));
        const leaver = of[pick % of.length];
        const rest = of.filter((member) => member !== leaver);
        const after = owners(rest);
        owners(of).forEach((owner, partition) => {
          if (owner !== leaver) expect(after[partition]).toBe(owner);
        });
      }),
    );
  });

  it('to the same instance again when it comes back under another nonce', () => {
    const before = owners([memberName('a', '1'), memberName('b', '1')]);
    const after = owners([memberName('a', '2'), memberName('b', '1')]);
    expect(after.map((owner) => instanceOf(owner ?? ''))).toEqual(
      before.map((owner) => instanceOf(owner ?? '')),
    );
  });

  it('to nobody when there is nobody', () => {
    expect(ownerOf(0, [])).toBeUndefined();
  });
});
