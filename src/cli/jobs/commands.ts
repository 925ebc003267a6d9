import { Command, Option } from 'commander';
import { JobQueue } from '../../domain/jobs/events.ts';
import { JOB_STATUSES } from '../../projections/run.ts';
import { changeEach } from '../change-each.ts';
import { type ChangeOptions, changeOptions } from '../changes.ts';
import { examples } from '../examples.ts';
import { listOptions } from '../output/pages.ts';
import { readTime } from '../output/time.ts';
import { cancelling, retrying } from './changes.ts';
import { listJobsCommand } from './list.ts';
import { showJob } from './show.ts';
import { watchCommand } from './watch.ts';

/** `millrace jobs …` */
export function jobsCommand(): Command {
  const jobs = new Command('jobs').description(
    'What is to be done, is being done and was done, of all accounts.',
  );

  listOptions(
    examples(jobs.command('ls'), [
      ['millrace jobs ls --status running', 'what runs now'],
      [
        'millrace jobs ls --type export --from 2h --all --json',
        'the exports of the last two hours, for a program',
      ],
    ])
      .description('List jobs, the newest first.')
      .addOption(new Option('--status <status>', 'only those of a status').choices(JOB_STATUSES))
      .option('--type <type>', 'only those of a type')
      .addOption(new Option('--queue <queue>', 'only those of a queue').choices(JobQueue.enum))
      .option('--owner <account>', 'only those of an account')
      .option('--from <time>', 'created at or after: RFC 3339, or 15m, 2h, 7d ago', readTime)
      .option('--to <time>', 'created before', readTime),
  ).action(listJobsCommand);

  examples(jobs.command('show'), [
    ['millrace jobs show job-0fA1b2C3d4E5f6G7h8I9j0', ''],
    ['millrace jobs show job-0fA1b2C3d4E5f6G7h8I9j0 --json | jq .events', 'its history alone'],
  ])
    .description('Show a job and all that ever happened to it, as far as the ledger has it.')
    .argument('<id>', 'of the job')
    .option('--json', 'print JSON: the job, with its events')
    .action(showJob);

  examples(jobs.command('watch'), [
    ['millrace jobs watch job-0fA1b2C3d4E5f6G7h8I9j0', ''],
    ['millrace jobs watch job-0fA1b2C3d4E5f6G7h8I9j0 && echo done', 'wait for success'],
  ])
    .description(
      'Follow a job until it ends: a progress bar on a terminal, a line for each event elsewhere. Exits with 0 where it succeeded, with 1 where it failed or was cancelled.',
    )
    .argument('<id>', 'of the job')
    .option('--json', 'print each event as a line of JSON')
    .action(watchCommand);

  changeOptions(
    examples(jobs.command('cancel'), [
      ['millrace jobs cancel job-0fA1b2C3d4E5f6G7h8I9j0 --reason "sent twice"', ''],
      ['millrace jobs cancel job-0fA1b2C3d4E5f6G7h8I9j0 --dry-run', 'what would happen'],
    ])
      .description('Cancel jobs: what waits ends at once, what runs is told to end.')
      .argument('<id...>', 'of the jobs'),
  ).action((ids: string[], options: ChangeOptions) => changeEach(cancelling, ids, options));

  changeOptions(
    examples(jobs.command('retry'), [
      ['millrace jobs retry job-0fA1b2C3d4E5f6G7h8I9j0 --reason "the disk has room again" --yes', ''],
    ])
      .description('Enqueue jobs again that failed or were cancelled, each with all of its attempts.')
      .argument('<id...>', 'of the jobs'),
  ).action((ids: string[], options: ChangeOptions) => changeEach(retrying, ids, options));

  return jobs;
}
