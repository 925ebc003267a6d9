import type { RawEvent } from '../domain/event.ts';
import { formatPosition } from '../domain/position.ts';
import { LEDGER_GROUP } from '../eventstore/checkpoints.ts';
import { ATTR, SPAN } from '../telemetry/names.ts';
import { recordSpan, SpanKind, saysSampled } from '../telemetry/tracing.ts';
import { decidedAt, traceparentOf } from './event-meta.ts';

/** A batch whose oldest event is older than this is a replay: it prolongs nobody's trace. */
const PROMPT_MS = 60_000;

/** Records one span in the trace of each commit that a batch of the ledger had events of. */
export function observeLedger(events: readonly RawEvent[], startTime: number): void {
  const [first] = events;
  const endTime = Date.now();
  if (!first || endTime - (decidedAt(first.meta) ?? 0) > PROMPT_MS) return;
  const seen = new Set<string>();
  for (const event of events) {
    const parent = traceparentOf(event.meta);
    if (!parent || !saysSampled(parent) || seen.has(parent)) continue;
    seen.add(parent);
    recordSpan(SPAN.ledgerAppend, {
      kind: SpanKind.CONSUMER,
      parent,
      startTime,
      endTime,
      attributes: {
        [ATTR.messagingSystem]: 'redis',
        [ATTR.messagingOperation]: 'process',
        [ATTR.messagingGroup]: LEDGER_GROUP,
        [ATTR.partition]: event.partition,
        [ATTR.eventType]: event.type,
        [ATTR.position]: formatPosition(event),
        [ATTR.messagingBatchCount]: events.length,
      },
    });
  }
}
