import type { EventId } from '../domain/ids.ts';
import type { Checkpoint } from '../eventstore/types.ts';

/** A reactor's cursor, as Redis has it: `<epoch> <seq> <event id>`; '': it has read nothing yet. */
export function cursorText({ epoch, seq, eventId }: Checkpoint): string {
  return eventId === null ? '' : `${epoch} ${seq} ${eventId}`;
}

/** Throws where it is none. */
export function readCursor(text: string): Checkpoint {
  if (text === '') return { epoch: 0, seq: 0, eventId: null };
  const [epoch, seq, eventId] = text.split(' ');
  if (eventId === undefined) throw new Error(`"${text}" is no cursor`);
  // Written by `cursorText`, of an event of the log.
  return { epoch: Number(epoch), seq: Number(seq), eventId: eventId as EventId };
}
