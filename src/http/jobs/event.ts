import { type Static, Type } from 'typebox';
import type { EventMeta, RawEvent } from '../../domain/event.ts';
import { formatPosition } from '../../domain/position.ts';
import { Id, Time, Version } from '../schemas.ts';

/** What a client is shown of an event, in a list or live. */
export const Event = Type.Object({
  id: Id,
  type: Type.String({ description: 'One of those in /asyncapi.json.' }),
  version: Version,
  position: Type.String(),
  time: Time,
  actor: Type.String({ description: 'Who did it: an account, or `system:<part>`.' }),
  data: Type.Unknown({
    description: 'As /asyncapi.json has it for the type; failures without their stacks.',
  }),
});

export type ShownEvent = Static<typeof Event>;

/** As it was written: what is sealed stays so. */
export function shownEvent(event: RawEvent): ShownEvent {
  const { at, actor } = metaOf(event);
  return {
    id: event.id,
    type: event.type,
    version: event.version,
    position: formatPosition(event),
    time: at,
    actor,
    data: withoutStack(JSON.parse(event.data)),
  };
}

/** Written by `encodeChange` alone. */
export function metaOf(event: RawEvent): EventMeta {
  return JSON.parse(event.meta) as EventMeta;
}

/** A stack tells about our insides. */
function withoutStack(data: unknown): unknown {
  if (typeof data !== 'object' || data === null || !('error' in data)) return data;
  const { error } = data;
  if (typeof error !== 'object' || error === null || !('stack' in error)) return data;
  const { stack: _stack, ...rest } = error;
  return { ...data, error: rest };
}
