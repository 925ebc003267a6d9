import type { RecordedEvent } from '../domain/events.ts';
import { formatPosition } from '../domain/position.ts';
import { ATTR, SPAN } from '../telemetry/names.ts';
import { recordSpan, SpanKind, saysSampled } from '../telemetry/tracing.ts';
import type { ParkedEvent } from './parked.ts';
import { groupOf } from './projection.ts';

/** The most spans that one batch records: a catch-up must not drown the collector. */
const MAX_SPANS = 64;

/** Told of each batch that is visible: the events that were applied, when it began (ms since 1970), and what was parked. */
export type Observe = (
  applied: readonly RecordedEvent[],
  startTime: number,
  parked: readonly ParkedEvent[],
) => void;

export type ProjectionMetrics = {
  readonly projectionParked: { inc(labels: { projection: string; because: string }): void };
  readonly projectionFreshness: { observe(labels: { projection: string }, seconds: number): void };
};

/**
 * Measures a projection: how long its oldest event of a batch took to become visible, and, for each sampled
 * event that was applied, a span in the trace of the commit that wrote it.
 */
export function observeProjection(
  projection: { readonly name: string; readonly version: number },
  metrics: ProjectionMetrics,
): Observe {
  const labels = { projection: projection.name };
  return (applied, startTime, parked) => {
    for (const { because } of parked) metrics.projectionParked.inc({ ...labels, because });
    const [oldest] = applied;
    if (!oldest) return;
    const now = Date.now();
    metrics.projectionFreshness.observe(labels, Math.max(0, now - Date.parse(oldest.meta.at)) / 1000);
    recordSpans(projection, applied, startTime, now);
  };
}

function recordSpans(
  projection: { readonly name: string; readonly version: number },
  events: readonly RecordedEvent[],
  startTime: number,
  endTime: number,
): void {
  let spans = 0;
  for (const event of events) {
    const parent = event.meta.traceparent;
    if (parent === undefined || !saysSampled(parent)) continue;
    recordSpan(`${SPAN.process} projection:${projection.name}`, {
      kind: SpanKind.CONSUMER,
      parent,
      startTime,
      endTime,
      attributes: {
        [ATTR.messagingOperation]: 'process',
        [ATTR.messagingGroup]: groupOf(projection),
        [ATTR.messagingMessageId]: event.id,
        [ATTR.projection]: projection.name,
        [ATTR.partition]: event.partition,
        [ATTR.position]: formatPosition(event),
        [ATTR.eventType]: event.type,
      },
    });
    spans += 1;
    if (spans === MAX_SPANS) return;
  }
}
