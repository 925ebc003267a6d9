import fc from 'fast-check';
import { Type } from 'typebox';
import { describe, expect, it } from 'vitest';
import { backoffMs } from '../../src/consumers/backoff.ts';
import { defineJob, NoRetryError } from '../../src/consumers/define-job.ts';
import { decidedAt, traceparentOf } from '../../src/consumers/event-meta.ts';
import { normaliseError, normaliseResult } from '../../src/consumers/normalise.ts';
import { createProgress } from '../../src/consumers/progress.ts';
import { createSlots } from '../../src/consumers/slots.ts';
import { isAfter } from '../../src/consumers/waker.ts';
import { codec } from '../../src/domain/events.ts';
import { until } from './support.ts';

const NEVER = new AbortController().signal;

describe('Backoff', () => {
  it('grows to its cap and never beyond, with jitter down to nothing', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.double({ min: 0, max: 0.999, noNaN: true }),
        (n, random) => {
          const ms = backoffMs(n, { baseMs: 100, capMs: 5_000 }, random);
          expect(ms).toBeGreaterThanOrEqual(0);
          expect(ms).toBeLessThan(Math.min(5_000, 100 * 2 ** (n - 1)));
        },
      ),
    );
  });
});

describe('What a handler returns or throws', () => {
  const job = defineJob({
    type: 'test',
    enqueuedBy: 'accounts',
    queue: 'default',
    maxAttempts: 1,
    timeoutSeconds: 1,
    retry: { baseMs: 1, capMs: 1 },
    payload: Type.Object({ n: Type.Integer() }),
    result: Type.Unknown(),
    run: async () => null,
  });

  it('always fits into its event, whatever it is', () => {
    fc.assert(
      fc.property(
        fc.anything({ withBigInt: true }),
        fc.string({ unit: 'binary', maxLength: 10_000 }),
        (thrown, text) => {
          for (const error of [thrown, new Error(text), Object.assign(new Error(text), { name: text })]) {
            codec.check('JobDeadLettered', { type: 'test', attempt: 1, error: normaliseError(error) });
          }
        },
      ),
      { numRuns: 50 },
    );
  });

  it('fits even where reading it fails', () => {
    const hostile = Object.defineProperty(new Error('x'), 'message', {
      get() {
        throw new Error('no');
      },
    });
    expect(normaliseError(hostile).message).toContain('cannot be written down');
    expect(normaliseError(1n).message).toContain('cannot be written down');
  });

  it('loses U+0000 and lone surrogates, in keys too, and nothing else', () => {
    const result = { 'a\u0000': ['\ud800', { deep: 'é🎉' }], n: 1.5, none: null };
    expect(normaliseResult(job, result)).toEqual({
      'a\ufffd': ['\ufffd', { deep: 'é🎉' }],
      n: 1.5,
      none: null,
    });
  });

  it('is refused for good when it cannot be written down', () => {
    const circle: Record<string, unknown> = {};
    circle.self = circle;
    for (const bad of [circle, 1n, 'x'.repeat(300_000)]) {
      expect(() => normaliseResult(job, bad)).toThrow(NoRetryError);
    }
  });
});

describe('Progress', () => {
  it('is recorded at once, then once a second at most, the latest of what came between', async () => {
    const recorded: number[] = [];
    const progress = createProgress(async (percent) => {
      recorded.push(percent);
    });
    const begun = performance.now();
    for (const percent of [1, 2, 3]) progress.report(percent);
    expect(recorded).toEqual([1]);
    await until(() => expect(recorded).toEqual([1, 3]));
    expect(performance.now() - begun).toBeGreaterThan(950);
    progress.report(4);
    await progress.close();
    progress.report(5);
    expect(recorded).toEqual([1, 3]);
  });
});

describe('Slots', () => {
  it('go to who waits longest, and never to one who has given up', async () => {
    const slots = createSlots(1);
    const release = await slots.acquire(NEVER);
    const impatient = new AbortController();
    const order: string[] = [];
    const wait = async (name: string, signal: AbortSignal) => {
      const got = await slots.acquire(signal);
      if (got) order.push(name);
      got?.();
    };
    const waiting = [wait('one', NEVER), wait('two', impatient.signal), wait('three', NEVER)];
    impatient.abort();
    release?.();
    release?.();
    await Promise.all(waiting);
    expect(order).toEqual(['one', 'three']);
    expect(slots.free).toBe(1);
  });
});

describe('Metadata', () => {
  it('is read without being misled by what an answer quotes', () => {
    const meta = JSON.stringify({
      schema: 1,
      claim: { answer: '{"at":"1999-01-01T00:00:00.000Z","traceparent":"00-wrong"}' },
      at: '2026-11-20T00:00:00.000Z',
      traceparent: '00-right',
    });
    expect(traceparentOf(meta)).toBe('00-right');
    expect(decidedAt(meta)).toBe(Date.UTC(2026, 10, 20));
    expect(traceparentOf('{}')).toBeUndefined();
    expect(decidedAt('{"at":"soon"}')).toBeUndefined();
  });

  it('of stream entries is compared by number, not by letter', () => {
    expect(isAfter('10-0', '9-5')).toBe(true);
    expect(isAfter('9-10', '9-9')).toBe(true);
    expect(isAfter('9-9', '9-9')).toBe(false);
    expect(isAfter('0-0', '1-0')).toBe(false);
  });
});
