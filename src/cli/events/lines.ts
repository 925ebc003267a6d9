import type { RawEvent } from '../../domain/event.ts';
import type { EventFilter } from '../../domain/feed.ts';
import type { StreamId } from '../../domain/ids.ts';
import { type ShownEvent, shownEvent } from '../../http/events/event.ts';
import { type Column, createTable } from '../output/table.ts';
import { shortTime } from '../output/time.ts';

export type FilterOptions = {
  readonly type?: string;
  readonly correlation?: string;
  readonly stream?: StreamId;
  readonly from?: string;
  readonly to?: string;
};

export function filterOf({ type, correlation, stream, from, to }: FilterOptions): EventFilter {
  return {
    type,
    correlationId: correlation,
    streamId: stream,
    from: from === undefined ? undefined : new Date(from),
    to: to === undefined ? undefined : new Date(to),
  };
}

const columns: readonly Column<ShownEvent>[] = [
  { title: 'TIME (UTC)', of: ({ time }) => shortTime(time).padEnd(19) },
  { title: 'POSITION', of: ({ position }) => position.padEnd(10) },
  { title: 'TYPE', of: ({ type }) => type.padEnd(18) },
  { title: 'STREAM', of: ({ streamId, version }) => `${streamId} ${version}`.padEnd(30) },
  { title: 'ACTOR', of: ({ actor = '' }) => actor },
  { title: 'DATA', of: ({ data }) => JSON.stringify(data), cut: true },
];

/** Prints events as they come: lines of a table, or of JSON. */
export function eventLines(json: boolean | undefined): (events: readonly RawEvent[]) => void {
  const table = createTable(columns, process.stdout);
  return (events) => {
    const shown = events.map(shownEvent);
    if (json) for (const event of shown) process.stdout.write(`${JSON.stringify(event)}\n`);
    else if (shown.length > 0) table.draw(shown);
  };
}
