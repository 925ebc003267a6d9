import { afterEach, describe, expect, it } from 'vitest';
import { ATTR, SPAN } from '../../src/telemetry/names.ts';
import { startTracing, type Tracing } from '../../src/telemetry/start.ts';
import {
  contextFromTraceparent,
  currentTraceId,
  currentTraceparent,
  MAX_LINKS,
  parseTraceparent,
  recordSpan,
  SpanKind,
  traceIdOf,
  withSpan,
} from '../../src/telemetry/tracing.ts';
import { type OtlpReceiver, startOtlpReceiver } from '../support/otlp.ts';

const identity = { serviceName: 'millrace-test', role: 'workers', instanceId: 'w-1' };
const TRACE = '0af7651916cd43dd8448eb211c80319c';
const SAMPLED = `00-${TRACE}-b7ad6b7169203331-01`;
const UNSAMPLED = `00-${TRACE}-b7ad6b7169203331-00`;

let tracing: Tracing | undefined;
let receiver: OtlpReceiver | undefined;

afterEach(async () => {
  await tracing?.shutdown();
  await receiver?.close();
  tracing = undefined;
  receiver = undefined;
});

async function traced(sampleRatio = 1): Promise<OtlpReceiver> {
  receiver = await startOtlpReceiver();
  tracing = startTracing({ ...identity, sampleRatio, otlpEndpoint: receiver.url });
  return receiver;
}

/** Everything that was recorded, once it has been sent. */
async function sent() {
  await tracing?.flush();
  return receiver?.spans() ?? [];
}

describe('spans', () => {
  it('nest, and carry who made them', async () => {
    await traced();
    await withSpan('outer', { kind: SpanKind.SERVER, attributes: { [ATTR.partition]: 3 } }, async () => {
      await withSpan('inner', {}, async () => {});
    });
    const spans = await sent();
    const outer = spans.find((span) => span.name === 'outer');
    const inner = spans.find((span) => span.name === 'inner');
    expect(inner).toMatchObject({ traceId: outer?.traceId, parentSpanId: outer?.spanId, kind: 1 });
    expect(outer).toMatchObject({ parentSpanId: undefined, kind: 2, attributes: { [ATTR.partition]: 3 } });
    expect(outer?.resource).toMatchObject({
      'service.name': 'millrace-test',
      'service.instance.id': 'w-1',
      [ATTR.role]: 'workers',
    });
    expect(outer?.resource).not.toHaveProperty('process.command_args');
  });

  it('continue an event of ours in another process, by its traceparent', async () => {
    await traced(0);
    await withSpan(SPAN.jobAttempt, { parent: SAMPLED }, async () => {
      expect(currentTraceId()).toBe(TRACE);
    });
    expect(await sent()).toMatchObject([{ traceId: TRACE, parentSpanId: 'b7ad6b7169203331' }]);
  });

  it('are not made below an event that is not sampled, whose trace id stays the current one', async () => {
    await traced(1);
    await withSpan(SPAN.jobAttempt, { parent: UNSAMPLED }, () =>
      withSpan('inner', {}, async () => expect(currentTraceparent()).toBe(UNSAMPLED)),
    );
    expect(await sent()).toEqual([]);
  });

  it('begin a trace of their own where asked to, linked to the cause', async () => {
    await traced();
    await withSpan('redrive', { root: true, links: [SAMPLED, 'rubbish', undefined] }, async () => {});
    const [redrive] = await sent();
    expect(redrive?.traceId).not.toBe(TRACE);
    expect(redrive?.links).toEqual([{ traceId: TRACE, spanId: 'b7ad6b7169203331' }]);
  });

  it('keep at most 128 links', async () => {
    await traced();
    await withSpan('batch', { links: Array(500).fill(SAMPLED) }, async () => {});
    expect((await sent())[0]?.links).toHaveLength(MAX_LINKS);
  });

  it('end and are marked when what they wrap fails, without quoting its message', async () => {
    await traced();
    const failing = Object.assign(new Error('someone@example.org is taken'), { code: 'EPERSON' });
    await expect(withSpan('later', {}, () => Promise.reject(failing))).rejects.toBe(failing);
    expect(() =>
      withSpan('now', {}, () => {
        throw new TypeError('x');
      }),
    ).toThrow(TypeError);
    const spans = await sent();
    expect(spans).toMatchObject([
      { name: 'later', status: 2, attributes: { [ATTR.errorType]: 'EPERSON' } },
      { name: 'now', status: 2, attributes: { [ATTR.errorType]: 'TypeError' } },
    ]);
    expect(JSON.stringify(spans)).not.toContain('example.org');
  });

  it('of a batch are recorded afterwards, one for each sampled event', async () => {
    await traced();
    const times = { startTime: 1_700_000_000_000, endTime: 1_700_000_000_012.5, kind: SpanKind.CONSUMER };
    const recorded = recordSpan(SPAN.process, { ...times, parent: SAMPLED });
    expect(traceIdOf(recorded)).toBe(TRACE);
    for (const parent of [UNSAMPLED, undefined, 'rubbish']) {
      expect(recordSpan(SPAN.process, { ...times, parent })).toBeUndefined();
    }
    const spans = await sent();
    expect(spans).toHaveLength(1);
    expect(spans[0]).toMatchObject({ kind: 5, traceId: TRACE, parentSpanId: 'b7ad6b7169203331' });
    expect(spans[0]?.startTimeMs).toBeCloseTo(1_700_000_000_000, 0);
    expect((spans[0]?.endTimeMs ?? 0) - (spans[0]?.startTimeMs ?? 0)).toBeCloseTo(12.5, 0);
  });
});

describe('sampling', () => {
  it('of new traces follows the ratio', async () => {
    await traced(0.5);
    for (let i = 0; i < 400; i++) withSpan('root', {}, () => {});
    const share = (await sent()).length / 400;
    expect(share).toBeGreaterThan(0.35);
    expect(share).toBeLessThan(0.65);
  });
});

describe('without a collector', () => {
  it('ids exist where none is named', () => {
    tracing = startTracing({ ...identity, sampleRatio: 1 });
    const outer = withSpan('outer', {}, () => currentTraceparent());
    expect(outer).toMatch(/^00-[0-9a-f]{32}-[0-9a-f]{16}-00$/);
  });

  it('nothing is slowed or broken by one that is away, and that is told once', async () => {
    const told: object[] = [];
    tracing = startTracing({
      ...identity,
      sampleRatio: 1,
      otlpEndpoint: 'http://127.0.0.1:1',
      logger: { warn: (fields) => told.push(fields) },
    });
    const started = performance.now();
    for (let i = 0; i < 20_000; i++) withSpan('burst', {}, () => {});
    expect(performance.now() - started).toBeLessThan(2_000);
    await tracing.flush();
    await tracing.shutdown();
    expect(performance.now() - started).toBeLessThan(8_000);
    expect(told).toHaveLength(1);
  });

  it('helpers work, and do nothing, where tracing was never started', async () => {
    expect(await withSpan('x', {}, async () => currentTraceparent())).toBeUndefined();
    expect(currentTraceId()).toBeUndefined();
  });
});

describe('a traceparent', () => {
  it.each([
    ['upper case', SAMPLED.toUpperCase()],
    ['a trace id of zeros', `00-${'0'.repeat(32)}-b7ad6b7169203331-01`],
    ['a span id of zeros', `00-${TRACE}-${'0'.repeat(16)}-01`],
    ['version ff', `ff${SAMPLED.slice(2)}`],
    ['more behind version 00', `${SAMPLED}-more`],
    ['too little', SAMPLED.slice(0, -1)],
    ['two of them', `${SAMPLED}, ${SAMPLED}`],
    ['nothing', ''],
  ])('with %s is refused', (_what, traceparent) => {
    expect(parseTraceparent(traceparent)).toBeUndefined();
    expect(contextFromTraceparent(traceparent)).toBeUndefined();
  });

  it('of a later version may carry more', () => {
    expect(parseTraceparent(`01${SAMPLED.slice(2)}-more`)).toMatchObject({ traceId: TRACE, traceFlags: 1 });
  });
});
