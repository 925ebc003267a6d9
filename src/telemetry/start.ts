import { context, DiagLogLevel, diag, trace } from '@opentelemetry/api';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { envDetector } from '@opentelemetry/resources';
import { NodeSDK } from '@opentelemetry/sdk-node';
import {
  AlwaysOffSampler,
  BatchSpanProcessor,
  NoopSpanProcessor,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
} from '@opentelemetry/sdk-trace';
import { ATTR } from './names.ts';
import { MAX_LINKS } from './tracing.ts';

export type TracingOptions = {
  /** `service.name` of every span. */
  readonly serviceName: string;
  /** `millrace.role`: what this process runs. */
  readonly role: string;
  /** `service.instance.id`. */
  readonly instanceId: string;
  /** Share of new traces that are recorded, 0–1. A trace that has begun keeps its decision in every process. */
  readonly sampleRatio: number;
  /** Base address of a collector that speaks OTLP/HTTP, as `http://127.0.0.1:4318`. Without it nothing is recorded. */
  readonly otlpEndpoint?: string | undefined;
  /** Where failing exports are told, once a minute at most. */
  readonly logger?: { warn(fields: object, message: string): void } | undefined;
};

export type Tracing = {
  /** Sends what waits, and answers when it is sent or given up. Never rejects. */
  flush(): Promise<void>;
  /** Flushes (3 s at most) and takes tracing down, so that it may be started again. Never rejects. */
  shutdown(): Promise<void>;
};

const EXPORT_TIMEOUT_MS = 2_000;
const SHUTDOWN_TIMEOUT_MS = 3_000;
const QUEUE_SPANS = 4_096;
const BATCHES = 8;
const LOG_EVERY_MS = 60_000;

/**
 * Starts tracing for this process, once: ids and context from here on, spans to a collector if one is named.
 *
 * Nothing that happens to the collector reaches a request: spans wait in a bounded queue (4,096; what is beyond
 * is dropped), leave in batches in the background with a time limit of 2 s, and a failure is a log line.
 * Without a collector trace ids exist all the same, in events, answers and logs.
 *
 * Metrics and logs have no exporter here, whatever OTEL_* says: Prometheus scrapes the one, standard output is
 * the other.
 *
 * @throws Error where otlpEndpoint is no URL
 */
export function startTracing(options: TracingOptions): Tracing {
  const processor = options.otlpEndpoint === undefined ? undefined : batchesTo(options.otlpEndpoint);
  const sdk = new NodeSDK({
    serviceName: options.serviceName,
    // The default detectors put the command line and the user's name on every span; only what was asked for goes out.
    resourceDetectors: [
      envDetector,
      {
        detect: () => ({
          attributes: { 'service.instance.id': options.instanceId, [ATTR.role]: options.role },
        }),
      },
    ],
    sampler: new ParentBasedSampler({
      root:
        processor === undefined ? new AlwaysOffSampler() : new TraceIdRatioBasedSampler(options.sampleRatio),
    }),
    // Without a processor the SDK registers no tracer, and there would be no ids.
    spanProcessors: [processor ?? new NoopSpanProcessor()],
    spanLimits: { linkCountLimit: MAX_LINKS, attributeCountLimit: 64, attributeValueLengthLimit: 1_024 },
    textMapPropagator: null,
    instrumentations: [],
    metricReaders: [],
    logRecordProcessors: [],
  });
  diag.setLogger(throttled(options.logger), { logLevel: DiagLogLevel.WARN, suppressOverrideMessage: true });
  sdk.start();
  return {
    flush: () => atMost(SHUTDOWN_TIMEOUT_MS, processor?.forceFlush()),
    shutdown: async () => {
      await atMost(SHUTDOWN_TIMEOUT_MS, sdk.shutdown());
      trace.disable();
      context.disable();
      diag.disable();
    },
  };
}

function batchesTo(endpoint: string): BatchSpanProcessor {
  const url = new URL(endpoint);
  if (!url.pathname.endsWith('/v1/traces')) url.pathname = `${url.pathname.replace(/\/+$/, '')}/v1/traces`;
  return new BatchSpanProcessor({
    // A shutdown sends the whole queue at once; with fewer slots the rest would be dropped there.
    exporter: new OTLPTraceExporter({
      url: url.href,
      timeoutMillis: EXPORT_TIMEOUT_MS,
      concurrencyLimit: BATCHES + 1,
    }),
    maxQueueSize: QUEUE_SPANS,
    maxExportBatchSize: QUEUE_SPANS / BATCHES,
    scheduledDelayMillis: 1_000,
    exportTimeoutMillis: EXPORT_TIMEOUT_MS + 500,
  });
}

/** OpenTelemetry's own complaints: a collector that is away would otherwise write a line a second. */
function throttled(logger: TracingOptions['logger']) {
  let silentUntil = 0;
  let suppressed = 0;
  const tell = (message: string) => {
    const now = performance.now();
    if (now < silentUntil) {
      suppressed += 1;
      return;
    }
    silentUntil = now + LOG_EVERY_MS;
    logger?.warn({ reason: message.slice(0, 300), suppressed }, 'traces cannot be exported');
    suppressed = 0;
  };
  const nothing = () => {};
  return { error: tell, warn: tell, info: nothing, debug: nothing, verbose: nothing };
}

/** Waits for `work`, but no longer than `ms`, and swallows its failure: telemetry never fails a process. */
async function atMost(ms: number, work: Promise<void> | undefined): Promise<void> {
  const { promise: tooLate, resolve } = Promise.withResolvers<void>();
  const timer = setTimeout(resolve, ms);
  await Promise.race([work?.catch(() => {}), tooLate]);
  clearTimeout(timer);
}
