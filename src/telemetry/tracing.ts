import {
  type Attributes,
  type Context,
  context,
  type Link,
  ROOT_CONTEXT,
  type Span,
  type SpanContext,
  SpanKind,
  SpanStatusCode,
  TraceFlags,
  trace,
} from '@opentelemetry/api';
import { LightContext } from './light-context.ts';
import { ATTR, TRACER } from './names.ts';

/**
 * What other modules use of tracing. It needs OpenTelemetry's API only, so that importing it is cheap and a
 * test that never starts tracing gets no-ops; the SDK is loaded by `start.ts` alone.
 *
 * A *traceparent* is W3C's string, `00-<32 hex>-<16 hex>-<flags>`: that is what an event's metadata carries.
 */
export { type Attributes, type Context, type Span, SpanKind } from '@opentelemetry/api';

/** Jaeger and Tempo load traces with more links badly or not at all; also the limit of OpenTelemetry's specification. */
export const MAX_LINKS = 128;

const TRACEPARENT = /^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$/;

/** What a job's or an event's context begins with. */
const EMPTY = new LightContext();

/** Of a traceparent of version 00. */
const LENGTH = 55;
const SAMPLED_ENDS = '13579bdf';

/** How a span is made. */
export type SpanDetails = {
  /** Default: INTERNAL. */
  readonly kind?: SpanKind;
  /** As a function where making them is not for nothing: it is called for a span that is recorded only. */
  readonly attributes?: Attributes | (() => Attributes);
  /** A context or a traceparent of *our own* to be the child of. Default, and where it is malformed: the active context. */
  readonly parent?: Context | string | undefined;
  /** Begin a new trace (redrive, rebuild, scheduled run, delayed retry): link to the cause instead of prolonging its trace. */
  readonly root?: boolean;
  /** Traceparents to link to; the first 128 valid ones are kept. */
  readonly links?: readonly (string | undefined)[];
};

/**
 * Runs `fn` inside a span, which ends when `fn` returns or its promise settles. What `fn` throws marks the span
 * as failed and is thrown on. Under a parent that is not sampled no span is made and `fn` runs directly: the
 * parent's ids stay the active ones.
 *
 * Of an error only its type is put on the span (`error.type`): messages may quote personal data, and spans
 * leave the installation. The log line of the same trace id has the rest.
 *
 * @example
 * const result = await withSpan(SPAN.commit, { attributes: { [ATTR.partition]: 3 } }, () => commit(batch));
 */
export function withSpan<T>(name: string, details: SpanDetails, fn: (span: Span) => T): T {
  const base = parentOf(details);
  const above = trace.getSpan(base);
  if (above !== undefined && isValid(above.spanContext()) && !isSampled(above.spanContext())) {
    return base === context.active() ? fn(above) : context.with(base, () => fn(above));
  }
  const span = trace.getTracer(TRACER).startSpan(name, optionsOf(details), base);
  return context.with(trace.setSpan(base, span), () => {
    try {
      const result = fn(span);
      if (!(result instanceof Promise)) {
        span.end();
        return result;
      }
      return result.then(
        (value: unknown) => {
          span.end();
          return value;
        },
        (error: unknown) => {
          failSpan(span, error);
          span.end();
          throw error;
        },
      ) as T;
    } catch (error) {
      failSpan(span, error);
      span.end();
      throw error;
    }
  });
}

/** A span that is already over, as one of a batch is by the time that the batch is committed. */
export type FinishedSpan = Omit<SpanDetails, 'parent' | 'root'> & {
  /** The traceparent of the event; without one, or with one that is not sampled, nothing is recorded. */
  readonly parent: string | undefined;
  /** Milliseconds since 1970; fractions are kept. */
  readonly startTime: number;
  /** Milliseconds since 1970; fractions are kept. */
  readonly endTime: number;
  /** What failed, where it did: an error or its type. */
  readonly error?: unknown;
};

/**
 * Records a span after the fact. Batches use it: one `process` span of kind CONSUMER for each *sampled* event,
 * child of the event's own traceparent, while the batch itself runs in one span that links to them.
 *
 * @returns the new span's traceparent, or undefined where the parent is absent, malformed or not sampled
 */
export function recordSpan(name: string, finished: FinishedSpan): string | undefined {
  const parent = parseTraceparent(finished.parent);
  if (parent === undefined || !isSampled(parent)) return undefined;
  const span = trace
    .getTracer(TRACER)
    .startSpan(
      name,
      { ...optionsOf(finished), startTime: finished.startTime },
      trace.setSpanContext(EMPTY, parent),
    );
  if (finished.error !== undefined) failSpan(span, finished.error);
  span.end(finished.endTime);
  return formatTraceparent(span.spanContext());
}

/** The active span as a traceparent; undefined outside any trace. Costs well under a microsecond. */
export function currentTraceparent(): string | undefined {
  const active = trace.getSpanContext(context.active());
  return active === undefined ? undefined : formatTraceparent(active);
}

/** The active trace id (32 hex), or undefined outside any trace. */
export function currentTraceId(): string | undefined {
  const active = trace.getSpanContext(context.active());
  return active !== undefined && isValid(active) ? active.traceId : undefined;
}

/** The trace id (32 hex) of a traceparent, or undefined where it is absent or malformed. */
export function traceIdOf(traceparent: string | undefined): string | undefined {
  return parseTraceparent(traceparent)?.traceId;
}

/**
 * A context whose active span is the given remote one, and which holds nothing else of the caller's: to be used
 * as a `parent`. Only for traceparents of our own, whose sampling flag may be trusted.
 *
 * @returns undefined where the traceparent is absent or malformed
 */
export function contextFromTraceparent(traceparent: string | undefined): Context | undefined {
  const parent = parseTraceparent(traceparent);
  return parent === undefined ? undefined : trace.setSpanContext(EMPTY, parent);
}

/** A span context as a traceparent; undefined where its ids are all zero, as they are when tracing was not started. */
export function formatTraceparent(span: SpanContext): string | undefined {
  return isValid(span) ? `00-${span.traceId}-${span.spanId}-${isSampled(span) ? '01' : '00'}` : undefined;
}

/**
 * Reads a traceparent as W3C Trace Context (level 2) says: lower-case hex, no id all zero, version `ff` refused,
 * and a version above 00 may carry more behind the flags.
 */
export function parseTraceparent(traceparent: string | undefined): SpanContext | undefined {
  if (traceparent === undefined || traceparent.length > 512) return undefined;
  // Its parts have fixed places; every job's is read, and captures cost more than the rest.
  if (!TRACEPARENT.test(traceparent) || traceparent.startsWith('ff')) return undefined;
  if (traceparent.startsWith('00') && traceparent.length > LENGTH) return undefined;
  const span = {
    traceId: traceparent.slice(3, 35),
    spanId: traceparent.slice(36, 52),
    traceFlags: Number.parseInt(traceparent.slice(53, LENGTH), 16) & TraceFlags.SAMPLED,
    isRemote: true,
  };
  return isValid(span) ? span : undefined;
}

/** Whether a traceparent of our own says that its trace is kept: the lowest bit of the flags, which end it. A look, and no more. */
export function saysSampled(traceparent: string): boolean {
  return traceparent !== '' && SAMPLED_ENDS.includes(traceparent.charAt(traceparent.length - 1));
}

/** Traceparents as links, malformed ones left out, at most 128. */
export function linksOf(traceparents: readonly (string | undefined)[]): Link[] {
  const links: Link[] = [];
  for (const traceparent of traceparents) {
    const linked = parseTraceparent(traceparent);
    if (linked !== undefined) links.push({ context: linked });
    if (links.length === MAX_LINKS) break;
  }
  return links;
}

/** Marks a span as failed by an error (its `code` or class name) or by a type already known. */
export function failSpan(span: Span, error: unknown): void {
  span.setStatus({ code: SpanStatusCode.ERROR });
  span.setAttribute(ATTR.errorType, errorType(error));
}

function errorType(error: unknown): string {
  if (typeof error === 'string') return error;
  if (!(error instanceof Error)) return '_OTHER';
  const code = 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : error.name;
}

function parentOf({ parent, root }: SpanDetails): Context {
  if (root === true) return ROOT_CONTEXT;
  const given = typeof parent === 'string' ? contextFromTraceparent(parent) : parent;
  return given ?? context.active();
}

function optionsOf({ kind = SpanKind.INTERNAL, attributes, links }: Omit<SpanDetails, 'parent' | 'root'>) {
  return {
    kind,
    ...(attributes === undefined
      ? {}
      : { attributes: typeof attributes === 'function' ? attributes() : attributes }),
    ...(links === undefined ? {} : { links: linksOf(links) }),
  };
}

function isValid(span: SpanContext): boolean {
  return span.traceId !== '00000000000000000000000000000000' && span.spanId !== '0000000000000000';
}

function isSampled(span: SpanContext): boolean {
  return (span.traceFlags & TraceFlags.SAMPLED) !== 0;
}
