import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { FencedError } from '../../src/eventstore/types.ts';
import { createWorld, type World } from '../support/world.ts';
import { applyAll, emptyReadModels, start, subjects } from './support/harness.ts';
import { history } from './support/histories.ts';

let world: World;
beforeAll(async () => {
  world = await createWorld();
});
afterAll(() => world.dispose());

const sizes = fc.array(fc.integer({ min: 1, max: 12 }), { minLength: 1, maxLength: 4 });
const runs = { numRuns: 25 };

describe.each(subjects)('the read model $name', (subject) => {
  it('holds the fold of all events, however they were batched and interleaved over partitions', async () => {
    const example = fc.asyncProperty(history(0), history(1), sizes, async (one, other, sizes) => {
      await emptyReadModels(world);
      const group = subject.group(world);
      await Promise.all([applyAll(group, one, 1, sizes), applyAll(group, other, 2, sizes)]);
      expect(await subject.stored(world)).toEqual(subject.expected([...one, ...other]));
    });
    await fc.assert(example, runs);
  });

  it('takes no event twice: a batch that comes again is refused, and changes nothing', async () => {
    const example = fc.asyncProperty(history(0), sizes, async (events, sizes) => {
      await emptyReadModels(world);
      const group = subject.group(world);
      let at = await group.open(0, 1);
      for (let turn = 0; at.seq < events.length; turn++) {
        const batch = events.slice(at.seq, at.seq + (sizes[turn % sizes.length] ?? 1));
        const next = await group.apply(0, at, batch, 1);
        await expect(group.apply(0, at, batch, 1)).rejects.toThrow(FencedError);
        at = next;
      }
      await expect(group.apply(0, start, events, 1)).rejects.toThrow(FencedError);
      expect(await subject.stored(world)).toEqual(subject.expected(events));
    });
    await fc.assert(example, runs);
  });

  it('goes on where it stood when its owner dies between any two batches', async () => {
    const example = fc.asyncProperty(history(0), fc.integer({ min: 1, max: 5 }), async (events, size) => {
      await emptyReadModels(world);
      let token = 1;
      for (let seq = 0; seq < events.length; token++) {
        const group = subject.group(world);
        const at = await group.open(0, token);
        expect(at.seq).toBe(seq);
        seq = (await group.apply(0, at, events.slice(seq, seq + size), token)).seq;
      }
      expect(await subject.stored(world)).toEqual(subject.expected(events));
    });
    await fc.assert(example, runs);
  });
});
