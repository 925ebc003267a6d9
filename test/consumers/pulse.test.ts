import { describe, expect, it } from 'vitest';
import { createPulse, createSilence } from '../../src/consumers/pulse.ts';

function clockedSilence(limitMs: number) {
  let now = 1_000;
  const silence = createSilence(limitMs, () => now);
  return {
    ...silence,
    /** Silence after each of `looks` looks, `everyMs` apart. */
    after(everyMs: number, looks: number, beats: (look: number) => number): number {
      let silent = 0;
      for (let look = 1; look <= looks; look++) {
        now += everyMs;
        silent = silence.of(beats(look));
      }
      return silent;
    },
  };
}

describe('Silence', () => {
  it('is as long as no beat was heard', () => {
    const silence = clockedSilence(10_000);
    expect(silence.lookEveryMs).toBe(500);
    expect(silence.after(500, 5, (look) => look)).toBe(0);
    expect(silence.after(500, 20, () => 5)).toBe(10_000);
    expect(silence.after(500, 1, () => 6)).toBe(0);
  });

  it('does not count the time in which the whole process was stopped', () => {
    const silence = clockedSilence(10_000);
    silence.after(500, 1, () => 1);
    expect(silence.after(3_600_000, 1, () => 1)).toBeLessThanOrEqual(1_000);
  });

  it('ends with a beat from the other thread', () => {
    const loop = createPulse();
    const renewer = createPulse(loop.buffer);
    loop.beat('loop');
    expect([renewer.beats('loop'), renewer.beats('renewer')]).toEqual([1, 0]);
  });
});
