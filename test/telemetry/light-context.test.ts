import { createContextKey, ROOT_CONTEXT, trace } from '@opentelemetry/api';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { LightContext } from '../../src/telemetry/light-context.ts';

describe('a light context', () => {
  it('holds what OpenTelemetry’s own would, and is never changed', () => {
    const keys = Array.from({ length: 4 }, (_, n) => createContextKey(`key ${n}`));
    const step = fc.record({ key: fc.nat({ max: 3 }), value: fc.option(fc.nat(), { nil: undefined }) });
    const seen = (context: { getValue(key: symbol): unknown }) => keys.map((key) => context.getValue(key));
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20 }), (steps) => {
        let [light, theirs] = [new LightContext() as typeof ROOT_CONTEXT, ROOT_CONTEXT];
        for (const { key: at, value } of steps) {
          const key = keys[at] as symbol;
          const before = [light, seen(light)] as const;
          light = value === undefined ? light.deleteValue(key) : light.setValue(key, value);
          theirs = value === undefined ? theirs.deleteValue(key) : theirs.setValue(key, value);
          expect(seen(light)).toEqual(seen(theirs));
          expect(seen(before[0])).toEqual(before[1]);
        }
      }),
    );
  });

  it('is one that the API puts a span into', () => {
    const span = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), traceFlags: 1 };
    expect(trace.getSpanContext(trace.setSpanContext(new LightContext(), span))).toEqual(span);
  });
});
