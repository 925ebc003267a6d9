import { once } from 'node:events';
import { type AddressInfo, connect, createServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { context, ROOT_CONTEXT } from '@opentelemetry/api';
import Fastify, { type FastifyInstance, type FastifyReply } from 'fastify';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { httpTelemetry, observeRequest, traceparentOf } from '../../src/telemetry/http.ts';
import { createMetrics, type Metrics } from '../../src/telemetry/metrics.ts';
import { ATTR, METRIC, SPAN } from '../../src/telemetry/names.ts';
import { startTracing, type Tracing } from '../../src/telemetry/start.ts';
import {
  currentTraceparent,
  recordSpan,
  SpanKind,
  traceIdOf,
  withSpan,
} from '../../src/telemetry/tracing.ts';
import { type OtlpReceiver, type ReceivedSpan, startOtlpReceiver } from '../support/otlp.ts';

const identity = { serviceName: 'millrace-test', role: 'api', instanceId: 'a-1' };
const FOREIGN_TRACE = '0af7651916cd43dd8448eb211c80319c';

let receiver: OtlpReceiver;
let tracing: Tracing;
let metrics: Metrics;
let app: FastifyInstance;

beforeEach(async () => {
  receiver = await startOtlpReceiver();
  metrics = createMetrics({ node: false });
});

afterEach(async () => {
  await app.close();
  await tracing.shutdown();
  await receiver.close();
});

async function serve(sampleRatio: number, otlpEndpoint: string | undefined = receiver.url): Promise<void> {
  tracing = startTracing({ ...identity, sampleRatio, otlpEndpoint });
  app = Fastify({
    forceCloseConnections: true,
    frameworkErrors: (error, request, reply) => {
      observeRequest(request, reply, metrics);
      (reply as FastifyReply).code(error.statusCode ?? 500).send({ code: error.code });
    },
  });
  app.register(httpTelemetry(metrics));
  // A hook that goes on from a callback of some other context, as those of a connection pool do.
  app.addHook('preParsing', (_request, _reply, _payload, done) => context.with(ROOT_CONTEXT, done));
  app.setErrorHandler((error: Error & { statusCode?: number }, request, reply) => {
    reply.code(error.statusCode ?? 500).send({ active: currentTraceparent(), own: traceparentOf(request) });
  });
  app.post('/v1/things/:id', async () => {
    const event = await withSpan(SPAN.commit, {}, async () => currentTraceparent());
    recordSpan(SPAN.process, {
      parent: event,
      startTime: Date.now() - 5,
      endTime: Date.now(),
      kind: SpanKind.CONSUMER,
    });
    return { event };
  });
  app.get('/fails', async () => {
    throw new RangeError('someone@example.org');
  });
  app.get('/slow', async (_request, reply) => {
    await sleep(150);
    return reply.send({});
  });
  app.get('/endless', (_request, reply) => {
    reply.raw.writeHead(200, { 'content-type': 'text/plain' });
    reply.raw.write('first');
    reply.hijack();
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
}

function base(): string {
  return app.listeningOrigin;
}

async function sent(): Promise<ReceivedSpan[]> {
  await tracing.flush();
  return receiver.spans();
}

async function exposed(accept?: string): Promise<string> {
  return (await metrics.render(accept)).body;
}

async function activeRequests(): Promise<number | undefined> {
  return (await metrics.activeRequests.get()).values[0]?.value;
}

describe('the trace of a request', () => {
  it('is one tree: the request, its commit, the event that was processed', async () => {
    await serve(1);
    const body = 'a'.repeat(200_000);
    const answer = await fetch(`${base()}/v1/things/42?ticket=secret`, { method: 'POST', body });
    expect(answer.status).toBe(200);
    const told = answer.headers.get('server-timing') ?? '';
    const spans = await sent();
    const request = spans.find((span) => span.kind === 2);
    const commit = spans.find((span) => span.name === SPAN.commit);
    const processed = spans.find((span) => span.name === SPAN.process);
    expect(told).toBe(`traceparent;desc="00-${request?.traceId}-${request?.spanId}-01"`);
    expect(request).toMatchObject({ name: 'POST /v1/things/:id', parentSpanId: undefined, status: 0 });
    expect(request?.attributes).toEqual({
      [ATTR.httpMethod]: 'POST',
      [ATTR.httpRoute]: '/v1/things/:id',
      [ATTR.httpStatus]: 200,
      [ATTR.urlPath]: '/v1/things/42',
      [ATTR.urlScheme]: 'http',
    });
    expect(commit).toMatchObject({ traceId: request?.traceId, parentSpanId: request?.spanId });
    expect(processed).toMatchObject({ traceId: request?.traceId, parentSpanId: commit?.spanId, kind: 5 });
    expect(spans).toHaveLength(3);
  });

  it('only links to the trace that a client sends, and makes its own decision to sample', async () => {
    await serve(1);
    const unsampled = `00-${FOREIGN_TRACE}-b7ad6b7169203331-00`;
    const answer = await fetch(`${base()}/v1/things/1`, {
      method: 'POST',
      headers: { traceparent: unsampled },
    });
    expect(traceIdOf(((await answer.json()) as { event: string }).event)).not.toBe(FOREIGN_TRACE);
    const request = (await sent()).find((span) => span.kind === 2);
    expect(request?.traceId).not.toBe(FOREIGN_TRACE);
    expect(request).toMatchObject({ parentSpanId: undefined });
    expect(request?.links).toEqual([{ traceId: FOREIGN_TRACE, spanId: 'b7ad6b7169203331' }]);
  });

  it("is not recorded because a client's flag says so", async () => {
    await serve(0);
    const sampled = `00-${FOREIGN_TRACE}-b7ad6b7169203331-01`;
    const answer = await fetch(`${base()}/v1/things/1`, {
      method: 'POST',
      headers: { traceparent: sampled },
    });
    expect(answer.headers.get('server-timing')).toMatch(
      /^traceparent;desc="00-[0-9a-f]{32}-[0-9a-f]{16}-00"$/,
    );
    expect(await sent()).toEqual([]);
  });

  it('is told on errors too, and is the active one in the error handler', async () => {
    await serve(1);
    const broken = { method: 'POST', body: '{', headers: { 'content-type': 'application/json' } };
    for (const [path, init, status] of [
      ['/v1/things/1', broken, 400],
      ['/fails', {}, 500],
    ] as const) {
      const answer = await fetch(base() + path, init);
      const body = (await answer.json()) as { active: string; own: string };
      expect(answer.status).toBe(status);
      expect(answer.headers.get('server-timing')).toContain(body.own);
      expect(body.active).toBe(body.own);
    }
    const spans = await sent();
    expect(spans.find((span) => span.name === 'GET /fails')).toMatchObject({
      status: 2,
      attributes: { [ATTR.errorType]: 'RangeError', [ATTR.httpStatus]: 500 },
    });
    expect(spans.find((span) => span.name === 'POST /v1/things/:id')).toMatchObject({ status: 0 });
    expect(JSON.stringify(spans)).not.toContain('example.org');
  });

  it.each(['/nowhere/at/all', '/%zz'])('is told where no route is: %s', async (path) => {
    await serve(1);
    const answer = await app.inject(path);
    expect(answer.headers['server-timing']).toMatch(/^traceparent;desc="00-/);
    expect(await exposed()).toContain(`${METRIC.httpRequests}{method="GET",route="unmatched"`);
    expect((await sent()).map((span) => span.name)).toEqual(['GET unmatched']);
  });
});

describe('a request', () => {
  it('is as fast with a collector that never answers', async () => {
    const black = createServer(() => {}).listen(0, '127.0.0.1');
    await once(black, 'listening');
    await serve(1, `http://127.0.0.1:${(black.address() as AddressInfo).port}`);
    const crashed = vi.fn();
    process.on('unhandledRejection', crashed);
    for (let i = 0; i < 600; i++) await app.inject({ method: 'POST', url: '/v1/things/1' });
    const started = performance.now();
    for (let i = 0; i < 200; i++) await app.inject({ method: 'POST', url: '/v1/things/1' });
    expect(performance.now() - started).toBeLessThan(1_500);
    await tracing.shutdown();
    expect(performance.now() - started).toBeLessThan(5_500);
    process.off('unhandledRejection', crashed);
    expect(crashed).not.toHaveBeenCalled();
    black.close();
  });

  it('is counted by method, route and status, with its trace as exemplar where it was recorded', async () => {
    await serve(1);
    const answer = await fetch(`${base()}/v1/things/7`, { method: 'POST' });
    const trace = /00-([0-9a-f]{32})/.exec(answer.headers.get('server-timing') ?? '')?.[1];
    await vi.waitFor(async () =>
      expect(await exposed()).toContain(
        'http_requests_total{method="POST",route="/v1/things/:id",status="200"} 1',
      ),
    );
    expect(await exposed('application/openmetrics-text; version=1.0.0')).toContain(`# {trace_id="${trace}"}`);
    expect(await exposed()).not.toContain('trace_id');
  });

  it('that its client aborts does not stay active', async () => {
    await serve(1);
    for (const path of ['/slow', '/endless']) {
      const socket = connect(Number(new URL(base()).port), '127.0.0.1');
      await once(socket, 'connect');
      socket.write(`GET ${path} HTTP/1.1\r\nhost: x\r\n\r\n`);
      await vi.waitFor(async () => expect(await activeRequests()).toBe(1), 10_000);
      socket.destroy();
      await vi.waitFor(async () => expect(await activeRequests()).toBe(0), 10_000);
    }
    await sleep(200);
    expect(await activeRequests()).toBe(0);
    const text = await exposed();
    expect(text).toContain('http_requests_total{method="GET",route="/slow",status="499"} 1');
    expect(text).toContain('http_requests_total{method="GET",route="/endless",status="200"} 1');
    expect((await sent()).map((span) => span.name)).toEqual(['GET /slow', 'GET /endless']);
  });
});
