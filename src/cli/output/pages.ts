import { type Command, InvalidArgumentError } from 'commander';
import { type Column, createTable } from './table.ts';

export type ListOptions = {
  readonly limit: number;
  readonly cursor?: string;
  readonly all?: boolean;
  readonly json?: boolean;
};

/** Of a page: the API's lists take no more, and so many travel at once with `--all`. */
const MOST = 200;

/** The options that every list has. */
export function listOptions(command: Command, json = 'print JSON: {items, nextCursor}'): Command {
  return command
    .option('--limit <n>', `how many, at most ${MOST}`, readLimit, 50)
    .option('--cursor <cursor>', 'go on where another page ended: its nextCursor')
    .option('--all', 'all of them, however many pages')
    .option('--json', json);
}

function readLimit(text: string): number {
  const limit = Number(text);
  if (!Number.isInteger(limit) || limit < 1 || limit > MOST) {
    throw new InvalidArgumentError(`It is a whole number from 1 to ${MOST}.`);
  }
  return limit;
}

/** A list that is read page by page: each page begins after the last item of the one before. */
export type Listed<T, C> = {
  readonly options: ListOptions;
  readonly read: (page: { readonly before: C | undefined; readonly limit: number }) => Promise<readonly T[]>;
  readonly after: (item: T) => C;
  /** The same cursors as the API's, so that either takes the other's. */
  readonly readCursor: (text: string | undefined) => C | undefined;
  readonly writeCursor: (after: C) => string;
  readonly columns: readonly Column<T>[];
};

/** Prints a page, or with `--all` one after another. */
export async function printList<T, C>(list: Listed<T, C>): Promise<void> {
  const { all, json } = list.options;
  const limit = all ? MOST : list.options.limit;
  const table = createTable(list.columns, process.stdout);
  let before = list.readCursor(list.options.cursor);
  let count = 0;
  if (json) process.stdout.write('{"items":[');
  for (;;) {
    // One more than asked for says whether there is a next page.
    const found = await list.read({ before, limit: limit + 1 });
    const items = found.slice(0, limit);
    if (json)
      for (const item of items) process.stdout.write(`${count++ === 0 ? '' : ','}${JSON.stringify(item)}`);
    else if (items.length > 0) table.draw(items);
    const last = items.at(-1);
    if (last === undefined || found.length <= limit) {
      if (json) process.stdout.write(']}\n');
      else if (items.length === 0 && before === undefined) console.error('There are none.');
      return;
    }
    before = list.after(last);
    if (all) continue;
    const nextCursor = list.writeCursor(before);
    if (json) process.stdout.write(`],"nextCursor":${JSON.stringify(nextCursor)}}\n`);
    else console.error(`There are more: --all, or --cursor ${nextCursor}`);
    return;
  }
}
