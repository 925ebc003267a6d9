import { Command } from 'commander';
import { readCursor, writeCursor } from '../http/cursors.ts';
import type { Before } from '../projections/listing.ts';
import { listSchedules, type ScheduleView } from '../projections/schedules.ts';
import { examples } from './examples.ts';
import { withReadModels } from './installation.ts';
import { type ListOptions, listOptions, printList } from './output/pages.ts';
import type { Column } from './output/table.ts';
import { shortTime } from './output/time.ts';

/** `millrace schedules …` */
export function schedulesCommand(): Command {
  const schedules = new Command('schedules').description('Jobs that are run again and again.');
  listOptions(
    examples(schedules.command('ls'), [
      ['millrace schedules ls', ''],
      ['millrace schedules ls --all --json', 'all of them, for a program'],
    ])
      .description('List schedules, the newest first, with their next and their last runs.')
      .option('--owner <account>', 'only those of an account'),
  ).action(list);
  return schedules;
}

const columns: readonly Column<ScheduleView>[] = [
  { title: 'ID', of: ({ id }) => id },
  { title: 'CRON', of: ({ cron }) => cron },
  { title: 'TIME ZONE', of: ({ timezone }) => timezone, cut: true },
  { title: 'MISSED', of: ({ missed }) => missed },
  { title: 'TYPE', of: ({ job }) => job.type, cut: true },
  { title: 'NEXT RUN (UTC)', of: ({ nextRunAt }) => shortTime(nextRunAt) || 'never' },
  { title: 'LAST RUN (UTC)', of: ({ lastRunAt }) => shortTime(lastRunAt) },
  { title: 'LAST JOB', of: ({ lastJobId }) => lastJobId ?? '' },
];

function list(options: ListOptions & { readonly owner?: string }): Promise<void> {
  const { owner } = options;
  return withReadModels((db, hmac, _config, opened) =>
    printList<ScheduleView, Before>({
      options,
      columns,
      read: async (page) =>
        Promise.all((await listSchedules(db, { owner, ...page })).map((each) => opened(each.owner, each))),
      after: ({ createdAt, id }) => ({ createdAt, id }),
      readCursor: (text) => readCursor(hmac, 'schedules', text),
      writeCursor: (after) => writeCursor(hmac, 'schedules', after),
    }),
  );
}
