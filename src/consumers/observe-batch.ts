import type { RawEvent } from '../domain/event.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { ATTR, SPAN } from '../telemetry/names.ts';
import { recordSpan, SpanKind } from '../telemetry/tracing.ts';
import { decidedAt, traceparentOf } from './event-meta.ts';

/** A batch whose oldest event is older than this is a replay: it prolongs nobody's trace. */
const PROMPT_MS = 60_000;
const PROJECTION = 'projection:';

/**
 * Measures a batch after its transaction: how fresh a projection is, and one span in the trace of each commit
 * that had an event in it.
 */
export function observeBatch(
  metrics: Pick<Metrics, 'projectionFreshness'>,
  group: string,
  events: readonly RawEvent[],
  startTime: number,
  endTime: number,
): void {
  const [first] = events;
  if (!first) return;
  const oldest = decidedAt(first.meta);
  if (oldest === undefined) return;
  const isProjection = group.startsWith(PROJECTION);
  if (isProjection) {
    const projection = group.slice(PROJECTION.length);
    metrics.projectionFreshness.observe({ projection }, Math.max(0, endTime - oldest) / 1000);
  }
  if (endTime - oldest > PROMPT_MS) return;
  const seen = new Set<string>();
  for (const event of events) {
    const parent = traceparentOf(event.meta);
    if (!parent || seen.has(parent)) continue;
    seen.add(parent);
    recordSpan(isProjection ? SPAN.projectionApply : SPAN.ledgerAppend, {
      kind: SpanKind.CONSUMER,
      parent,
      startTime,
      endTime,
      attributes: {
        [ATTR.messagingSystem]: 'redis',
        [ATTR.messagingOperation]: 'process',
        [ATTR.messagingGroup]: group,
        [ATTR.partition]: event.partition,
        [ATTR.eventType]: event.type,
        [ATTR.position]: `${event.partition}.${event.epoch}.${event.seq}`,
        [ATTR.messagingBatchCount]: events.length,
      },
    });
  }
}
