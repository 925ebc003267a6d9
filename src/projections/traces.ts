import type { RecordedEvent } from '../domain/events.ts';
import { formatPosition } from '../domain/position.ts';
import { ATTR, SPAN } from '../telemetry/names.ts';
import { recordSpan, SpanKind } from '../telemetry/tracing.ts';

/** The most spans that one batch records: a catch-up must not drown the collector. */
const MAX_SPANS = 64;

/**
 * Records, for each sampled event of a batch that was applied, a span as the child of the commit that wrote
 * the event.
 * @param startTime when the batch began, milliseconds since 1970
 */
export function recordProcessing(
  group: string,
  projection: string,
  events: readonly RecordedEvent[],
  startTime: number,
): void {
  const endTime = Date.now();
  let spans = 0;
  for (const event of events) {
    const parent = event.meta.traceparent;
    if (parent === undefined || !SAMPLED.test(parent)) continue;
    recordSpan(`${SPAN.process} projection:${projection}`, {
      kind: SpanKind.CONSUMER,
      parent,
      startTime,
      endTime,
      attributes: {
        [ATTR.messagingOperation]: 'process',
        [ATTR.messagingGroup]: group,
        [ATTR.messagingMessageId]: event.id,
        [ATTR.projection]: projection,
        [ATTR.partition]: event.partition,
        [ATTR.position]: formatPosition(event),
        [ATTR.eventType]: event.type,
      },
    });
    spans += 1;
    if (spans === MAX_SPANS) return;
  }
}

/** The lowest bit of the flags, which end a traceparent: an event that is not sampled costs one look. */
const SAMPLED = /[13579bdf]$/;
