import { expect, it, onTestFinished } from 'vitest';
import { codec } from '../../src/domain/events.ts';
import { streamId } from '../../src/domain/ids.ts';
import { projection } from '../../src/projections/accounts.ts';
import { observeProjection } from '../../src/projections/observe.ts';
import { startTracing } from '../../src/telemetry/start.ts';
import { startOtlpReceiver } from '../support/otlp.ts';
import { createLog } from './support/histories.ts';

/** Events of one account, as many as asked, sampled or not, from a given age on. */
function eventsOf(count: number, flags: '00' | '01', ageMs: number) {
  const log = createLog(0);
  const stream = streamId('email', 0, 'e'.repeat(20));
  for (let i = 0; i < count; i++) log.append(stream, { type: 'EmailClaimed', data: { accountId: 'a' } });
  const at = new Date(Date.now() - ageMs).toISOString();
  return log.events.map((raw) => {
    const event = codec.decode(raw);
    const traceparent = event.meta.traceparent?.replace(/..$/, flags) ?? '';
    return { ...event, meta: { ...event.meta, at, traceparent } };
  });
}

async function observed(batches: ReturnType<typeof eventsOf>[]) {
  const receiver = await startOtlpReceiver();
  onTestFinished(() => receiver.close());
  const tracing = startTracing({
    serviceName: 'test',
    role: 'projectors',
    instanceId: 'p-1',
    sampleRatio: 1,
    otlpEndpoint: receiver.url,
  });
  const freshness: unknown[][] = [];
  const parked: string[] = [];
  const observe = observeProjection(projection, {
    projectionParked: { inc: ({ projection, because }) => parked.push(`${projection} ${because}`) },
    projectionFreshness: { observe: (labels, seconds) => freshness.push([labels.projection, seconds]) },
  });
  for (const batch of batches) {
    const events = batch.map((event) => ({ ...event, data: '', meta: '' }));
    const left = events
      .slice(0, 1)
      .map((event) => ({ event, rowKey: 'r', because: 'decode' as const, error: 'e' }));
    observe(batch, Date.now() - 5, left);
  }
  await tracing.shutdown();
  return { spans: receiver.spans(), freshness, parked };
}

it('each sampled event that a projection applied has a span in the trace of its commit', async () => {
  const { spans } = await observed([eventsOf(2, '01', 0)]);
  expect(spans).toMatchObject(
    [1, 2].map((seq) => ({
      name: 'process projection:accounts',
      kind: 5,
      traceId: String(seq).padStart(32, '0'),
      parentSpanId: '00000000000000ff',
      attributes: {
        'messaging.consumer.group.name': 'projection:accounts@1',
        'messaging.message.id': `0e${seq}`,
        'millrace.position': `0.1.${seq}`,
      },
    })),
  );
});

it('a catch-up records 64 spans a batch at most, and none for what is not sampled', async () => {
  expect((await observed([eventsOf(200, '01', 0)])).spans).toHaveLength(64);
  expect((await observed([eventsOf(200, '00', 0)])).spans).toEqual([]);
});

it('freshness is the age of the oldest event of the batch when it became visible', async () => {
  const { freshness, parked } = await observed([eventsOf(3, '00', 2000), []]);
  expect(freshness).toEqual([['accounts', expect.closeTo(2, 0)]]);
  expect(parked).toEqual(['accounts decode']);
});
