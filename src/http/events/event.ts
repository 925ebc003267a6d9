import { type Static, Type } from 'typebox';
import type { RawEvent } from '../../domain/event.ts';
import { formatPosition } from '../../domain/position.ts';
import { traceIdOf } from '../../telemetry/tracing.ts';
import { Id, Time, Version } from '../schemas.ts';

/** An event as an operator is shown it, in a list, live, or by the command line. */
export const Event = Type.Object({
  id: Id,
  type: Type.String({ description: 'One of those in /asyncapi.json.' }),
  streamId: Id,
  version: Version,
  position: Type.String({ description: 'For Consistent-With.' }),
  time: Type.Optional({ ...Time, description: 'When it happened. Order comes from the position.' }),
  actor: Type.Optional(Type.String({ description: 'Who did it: an account, or `system:<part>`.' })),
  owner: Type.Optional(Type.String({ description: 'The account whose event it is.' })),
  correlationId: Type.Optional(Type.String({ description: 'Shared by all that follows from one request.' })),
  causationId: Type.Optional(Type.String({ description: 'The event that it follows from.' })),
  reason: Type.Optional(Type.String({ description: 'Why, in the words of who did it.' })),
  traceId: Type.Optional(Type.String()),
  data: Type.Unknown({
    description: 'As it is stored: personal fields are sealed. Text, where it can’t be read as JSON.',
  }),
});
export type ShownEvent = Static<typeof Event>;

/** Also of an event that our own code did not write, or not as it should: an operator looks for just these. */
export function shownEvent(event: RawEvent): ShownEvent {
  const meta = objectIn(event.meta);
  const text = (name: string) => (typeof meta[name] === 'string' ? meta[name] : undefined);
  const traceId = traceIdOf(text('traceparent'));
  const told = {
    time: text('at'),
    actor: text('actor'),
    owner: text('owner'),
    correlationId: text('correlation'),
    causationId: text('causation'),
    reason: text('reason'),
    traceId,
  };
  return {
    id: event.id,
    type: event.type,
    streamId: event.streamId,
    version: event.version,
    position: formatPosition(event),
    ...Object.fromEntries(Object.entries(told).filter(([, value]) => value !== undefined)),
    data: jsonOr(event.data),
  };
}

function jsonOr(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

function objectIn(text: string): Readonly<Record<string, unknown>> {
  const value = jsonOr(text);
  return typeof value === 'object' && value !== null ? { ...value } : {};
}
