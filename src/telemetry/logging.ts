import { isSpanContextValid, trace } from '@opentelemetry/api';
import { type DestinationStream, type Level, type Logger as PinoLogger, pino } from 'pino';
import { redacted, scrubbed, serializeError } from './redaction.ts';

export type Logger = PinoLogger;

export type LoggerOptions = {
  /** The least severe level that is written; `silent` writes nothing. */
  readonly level: Level | 'silent';
  /** What this process runs; on every line. */
  readonly role: string;
  /** This process; on every line. */
  readonly instanceId: string;
  /** Where lines go; default standard output. */
  readonly destination?: DestinationStream | undefined;
};

/**
 * JSON lines with `role`, `instanceId` and, inside a span, `traceId` and `spanId`. Secrets and personal data
 * are redacted by key at any depth (see redaction.ts), and what looks like a credential is cut out of any string.
 *
 * Log errors as `err`: `logger.warn({ err }, 'what could not be done')`.
 */
export function createLogger({ level, role, instanceId, destination }: LoggerOptions): Logger {
  const options = {
    level,
    base: { role, instanceId },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }), log: redacted },
    serializers: { err: serializeError, error: serializeError, req: serializeRequest },
    mixin: activeIds,
    hooks: { streamWrite: scrubbed },
  };
  return destination === undefined ? pino(options) : pino(options, destination);
}

function activeIds(): { traceId?: string; spanId?: string } {
  const span = trace.getActiveSpan()?.spanContext();
  return span !== undefined && isSpanContextValid(span) ? { traceId: span.traceId, spanId: span.spanId } : {};
}

/** Of a Fastify request: no query (it may hold a ticket or a signature), no address, no headers. */
function serializeRequest(request: { method?: string; url?: string }): object {
  return { method: request.method, path: request.url?.split('?', 1)[0] };
}
