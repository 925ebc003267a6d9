import { Command } from 'commander';
import { readCursor, writeCursor } from '../http/cursors.ts';
import type { Before } from '../projections/listing.ts';
import {
  listOperations,
  type OperationListing,
  type OperationView,
} from '../projections/operations/queries.ts';
import { examples } from './examples.ts';
import { withReadModels } from './installation.ts';
import { type ListOptions, listOptions, printList } from './output/pages.ts';
import type { Column } from './output/table.ts';
import { checkTimes, readTime, shortTime } from './output/time.ts';

/** `millrace ops …` */
export function operationsCommand(): Command {
  const ops = new Command('ops').description('What operators did.');
  listOptions(
    examples(ops.command('ls'), [
      ['millrace ops ls --from 7d', 'who did what in the last week, and why'],
      ['millrace ops ls --target jobs --all --json', 'all that was done to the read model jobs'],
    ])
      .description('List what operators did, the newest first: when, who, how, and why.')
      .option('--operation <name>', 'only one kind: projection.rebuild, queue.pause, job.retry, …')
      .option('--target <name>', 'only what was done to this')
      .option('--by <who>', 'only what this account, or system:cli:<user>, did')
      .option('--from <time>', 'at or after: RFC 3339, or 15m, 2h, 7d ago', readTime)
      .option('--to <time>', 'before', readTime),
  ).action(list);
  return ops;
}

const columns: readonly Column<OperationView>[] = [
  { title: 'WHEN (UTC)', of: ({ at }) => shortTime(at) },
  { title: 'WHO', of: ({ by }) => by },
  { title: 'OPERATION', of: ({ operation }) => operation },
  { title: 'TARGET', of: ({ target }) => target },
  { title: 'PARAMETERS', of: ({ parameters }) => parametersText(parameters), cut: true },
  { title: 'REASON', of: ({ reason }) => reason, cut: true },
];

function parametersText(parameters: OperationView['parameters']): string {
  return Object.entries(parameters)
    .map(([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(' ');
}

type Options = ListOptions & Omit<OperationListing, 'before' | 'limit'>;

async function list(options: Options): Promise<void> {
  checkTimes(options);
  const { operation, target, by, from, to } = options;
  await withReadModels((db, hmac) =>
    printList<OperationView, Before>({
      options,
      columns,
      read: (page) => listOperations(db, { operation, target, by, from, to, ...page }),
      after: ({ at, id }) => ({ createdAt: at, id }),
      readCursor: (text) => readCursor(hmac, 'operations', text),
      writeCursor: (after) => writeCursor(hmac, 'operations', after),
    }),
  );
}
