import { type Context, context, ROOT_CONTEXT, type Span, SpanKind, trace } from '@opentelemetry/api';
import type { FastifyPluginCallback, FastifyReply, FastifyRequest } from 'fastify';
import type { Metrics } from './metrics.ts';
import { ATTR, STATUS_CLIENT_CLOSED, TRACER, UNMATCHED_ROUTE } from './names.ts';
import { failSpan, formatTraceparent, linksOf } from './tracing.ts';

export type HttpMetrics = Pick<Metrics, 'httpRequests' | 'httpRequestDuration' | 'activeRequests'>;

type Observed = {
  readonly span: Span;
  readonly context: Context;
  readonly startedAt: number;
  readonly method: string;
  readonly route: string;
  error: unknown;
  over: boolean;
};

const kObserved = Symbol('millrace.observed');
type ObservedRequest = FastifyRequest & { [kObserved]: Observed | null };

/**
 * One SERVER span and one set of metrics a request, by hooks of our own: the instrumentations of the ecosystem
 * cost three to four times as much CPU. Register it first and on the root instance; its hooks hold for
 * everything that is registered there, errors and 404s included, and every answer carries
 * `Server-Timing: traceparent;desc="00-…"`.
 *
 * A request begins a trace of its own. A `traceparent` that a client sends is linked, never the parent: anybody
 * could otherwise have every request recorded, or graft spans onto a trace of their choice.
 */
export function httpTelemetry(metrics: HttpMetrics): FastifyPluginCallback {
  const plugin: FastifyPluginCallback = (app, _options, registered) => {
    app.decorateRequest(kObserved, null);
    app.addHook('onRequest', (request, reply, done) => {
      context.with(observeRequest(request, reply, metrics).context, done);
    });
    // Any hook in between that goes on from a callback of its own (a pool's, a socket's) leaves our context, so
    // it is entered again before the handler …
    app.addHook('preValidation', (request, _reply, done) => within(request, done));
    // … and before the error handler, which a body that can't be parsed reaches without preValidation.
    app.addHook('onError', (request, _reply, error, done) => {
      const observed = (request as ObservedRequest)[kObserved];
      if (observed !== null) observed.error = error;
      within(request, done);
    });
    app.addHook('onResponse', (request, reply, done) => {
      finish((request as ObservedRequest)[kObserved], reply, metrics);
      done();
    });
    registered();
  };
  // Fastify's own sign for "not in a scope of its own"; fastify-plugin does nothing else.
  return Object.assign(plugin, { [Symbol.for('skip-override')]: true });
}

/**
 * Begins span and metrics of a request, and sees that both end: with its answer, or when the client leaves.
 * The plugin calls it; so must a `frameworkErrors` handler, as Fastify answers a malformed URL without any hook.
 */
export function observeRequest(request: FastifyRequest, reply: FastifyReply, metrics: HttpMetrics): Observed {
  const method = request.method;
  const route = request.routeOptions.url ?? UNMATCHED_ROUTE;
  const span = startSpan(request, method, route);
  const observed: Observed = {
    span,
    context: trace.setSpan(ROOT_CONTEXT, span),
    startedAt: performance.now(),
    method,
    route,
    error: undefined,
    over: false,
  };
  (request as ObservedRequest)[kObserved] = observed;
  metrics.activeRequests.inc();
  const traceparent = formatTraceparent(span.spanContext());
  if (traceparent !== undefined) reply.header('server-timing', `traceparent;desc="${traceparent}"`);
  // Fastify runs onResponse on 'finish' only, which an aborted request never reaches.
  reply.raw.once('close', () => finish(observed, reply, metrics));
  return observed;
}

/**
 * The traceparent of a request's span, wherever the code runs (an error handler may be outside its context).
 * Undefined for a request that was never observed, or where tracing was not started.
 */
export function traceparentOf(request: FastifyRequest): string | undefined {
  const observed = (request as Partial<ObservedRequest>)[kObserved];
  return observed ? formatTraceparent(observed.span.spanContext()) : undefined;
}

function startSpan(request: FastifyRequest, method: string, route: string): Span {
  const sent = request.headers.traceparent;
  const span = trace.getTracer(TRACER).startSpan(
    `${method} ${route}`,
    {
      kind: SpanKind.SERVER,
      root: true,
      ...(typeof sent === 'string' ? { links: linksOf([sent]) } : {}),
    },
    ROOT_CONTEXT,
  );
  if (span.isRecording()) {
    // Never the query: it may hold a ticket or a signature.
    const path = request.url.split('?', 1)[0] ?? '';
    span.setAttributes({
      [ATTR.httpMethod]: method,
      [ATTR.urlPath]: path,
      [ATTR.urlScheme]: request.protocol,
      ...(route === UNMATCHED_ROUTE ? {} : { [ATTR.httpRoute]: route }),
    });
  }
  return span;
}

function within(request: FastifyRequest, done: () => void): void {
  const observed = (request as ObservedRequest)[kObserved];
  if (observed === null) done();
  else context.with(observed.context, done);
}

/** Called twice for most requests ('finish' and 'close'); the first one counts. */
function finish(observed: Observed | null, reply: FastifyReply, metrics: HttpMetrics): void {
  if (observed === null || observed.over) return;
  observed.over = true;
  const { span, method, route } = observed;
  const status = reply.raw.headersSent ? reply.raw.statusCode : STATUS_CLIENT_CLOSED;
  const labels = { method, route, status };
  const seconds = (performance.now() - observed.startedAt) / 1_000;
  metrics.activeRequests.dec();
  metrics.httpRequests.inc(labels);
  if (span.isRecording()) {
    // prom-client's types know no exemplar labels but the metric's own.
    const exemplarLabels = { trace_id: span.spanContext().traceId };
    metrics.httpRequestDuration.observe({ labels, value: seconds, exemplarLabels: exemplarLabels as object });
    span.setAttribute(ATTR.httpStatus, status);
    if (status >= 500) failSpan(span, observed.error ?? String(status));
  } else {
    metrics.httpRequestDuration.observe({ labels, value: seconds });
  }
  span.end();
}
