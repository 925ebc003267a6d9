import { describe, expect, it, onTestFinished } from 'vitest';
import { waitUntil } from '../support/installation.ts';
import { startOtlpReceiver } from '../support/otlp.ts';
import { sharedSetting } from '../support/setting.ts';

describe('a trace', () => {
  it('leads from the request through commit, ledger and read model to the job’s last event', async () => {
    const receiver = await startOtlpReceiver();
    onTestFinished(() => receiver.close());
    const { installation } = await sharedSetting({ OTEL_EXPORTER_OTLP_ENDPOINT: receiver.url });
    await installation.startAll();
    const client = installation.client();
    const ada = await client.register();
    const requested = await client.send('POST', '/v1/exports', {
      token: ada.token,
      body: { dataset: 'events', format: 'ndjson' },
    });
    const finished = await client.finishedExport(String(requested.body.id), ada.token);
    const traceId = /desc="00-([0-9a-f]{32})-/.exec(requested.headers.get('server-timing') ?? '')?.[1];
    expect(finished.body.traceId).toBe(traceId);

    const names = () =>
      receiver
        .spans()
        .filter((span) => span.traceId === traceId)
        .map((span) => span.name);
    const wanted = [
      /^POST \/v1\/exports$/,
      /commit/,
      /ledger/,
      /projection:exports/,
      /projection:jobs/,
      /process export/,
    ];
    await waitUntil(
      () => wanted.every((pattern) => names().some((name) => pattern.test(name))),
      'all spans',
      30_000,
      () => names().join('\n'),
    );

    // One tree: every span but the request's has its parent in the same trace.
    const spans = receiver.spans().filter((span) => span.traceId === traceId);
    const ids = new Set(spans.map((span) => span.spanId));
    const roots = spans.filter((span) => !span.parentSpanId);
    expect(roots.map((span) => span.name)).toEqual(['POST /v1/exports']);
    for (const span of spans)
      if (span.parentSpanId) expect(ids.has(span.parentSpanId), `${span.name} has its parent`).toBe(true);
    const text = JSON.stringify(receiver.spans());
    expect(text).not.toContain(ada.email);
    expect(text).not.toContain(ada.token);
  });
});
