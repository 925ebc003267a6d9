import type { Command } from 'commander';
import { createHmacs } from '../../access/signing.ts';
import { groupOfReadModel } from '../../app/groups.ts';
import { type Position, parsePosition } from '../../domain/position.ts';
import { readPositionCursor, writePositionCursor } from '../../http/cursors.ts';
import { parkedListOf } from '../../http/standing/parked.ts';
import { listParked, type ParkedView } from '../../projections/parked-events.ts';
import { RefusedError } from '../changes.ts';
import { examples } from '../examples.ts';
import { withPostgres } from '../installation.ts';
import { type ListOptions, listOptions, printList } from '../output/pages.ts';
import type { Column } from '../output/table.ts';
import { shortTime } from '../output/time.ts';

/** Adds `parked` to `millrace projections`. */
export function parkedList(projections: Command): void {
  listOptions(
    examples(projections.command('parked'), [['millrace projections parked jobs', '']])
      .description(
        'List the events that a read model could not apply, and why: the first of a row, and those that wait behind it.',
      )
      .argument('<name>', 'of the read model'),
  ).action(list);
}

const columns: readonly Column<ParkedView>[] = [
  { title: 'POSITION', of: ({ position }) => position },
  { title: 'TYPE', of: ({ type = '' }) => type },
  { title: 'ROW', of: ({ row }) => row },
  { title: 'PARKED (UTC)', of: ({ parkedAt }) => shortTime(parkedAt) },
  { title: 'ERROR', of: ({ error }) => error, cut: true },
];

function list(name: string, options: ListOptions): Promise<void> {
  const group = groupOfReadModel(name);
  if (group === undefined) throw new RefusedError('not_found', `There is no read model ${name}.`);
  return withPostgres((db, config) => {
    const hmac = createHmacs(config.HMAC_KEY);
    const list = parkedListOf(name);
    return printList<ParkedView, Position>({
      options,
      columns,
      read: ({ before, limit }) => listParked(db, group, { after: before, limit }),
      after: ({ position }) => placeOf(position),
      readCursor: (text) => readPositionCursor(hmac, list, text),
      writeCursor: (after) => writePositionCursor(hmac, list, after),
    });
  });
}

function placeOf(text: string): Position {
  const position = parsePosition(text);
  if (!position) throw new Error(`${text} is no position`);
  return position;
}
