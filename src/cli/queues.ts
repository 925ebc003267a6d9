import { Command } from 'commander';
import { readQueues } from '../app/queues.ts';
import { pauseQueue, type QueueChanged, resumeQueue } from '../commands/queues.ts';
import { queueStream } from '../domain/ids.ts';
import { JobQueue } from '../domain/jobs/events.ts';
import { pauseQueue as decidePause, resumeQueue as decideResume, queueFold } from '../domain/queues.ts';
import type { QueueView } from '../http/queues.ts';
import { countScheduled } from '../projections/jobs/queries.ts';
import { type Change, changeEach } from './change-each.ts';
import { type ChangeOptions, changeOptions, RefusedError } from './changes.ts';
import { examples } from './examples.ts';
import { withInstallation } from './installation.ts';
import { type Column, createTable } from './output/table.ts';
import { duration, shortTime } from './output/time.ts';

/** `millrace queues …` */
export function queuesCommand(): Command {
  const queues = new Command('queues').description('What jobs wait in.');
  examples(queues.command('ls'), [['millrace queues ls', '']])
    .description('List the queues: how full they are, and which are paused.')
    .option('--json', 'print JSON: {items}')
    .action(list);
  changeOptions(
    examples(queues.command('pause'), [
      ['millrace queues pause email --reason "the mail server is away"', ''],
      ['millrace queues pause email webhooks --reason "moving house" --yes', ''],
    ])
      .description('Pause queues: nothing more of them is begun, in any process; what runs ends.')
      .argument('<queue...>', 'their names'),
  ).action((names: string[], options: ChangeOptions) => changeEach(pausing, names, options));
  changeOptions(
    examples(queues.command('resume'), [
      ['millrace queues resume email --reason "the mail server is back" --yes', ''],
      ['millrace queues resume email --dry-run', 'what would happen'],
    ])
      .description('Resume queues: what waits in them is begun at once.')
      .argument('<queue...>', 'their names'),
  ).action((names: string[], options: ChangeOptions) => changeEach(resuming, names, options));
  return queues;
}

const columns = (now: number): readonly Column<QueueView>[] => [
  { title: 'QUEUE', of: ({ id }) => id },
  {
    title: 'STATE',
    of: ({ paused }) => (paused ? 'paused' : 'open'),
    colour: ({ paused }) => (paused ? 'yellow' : undefined),
  },
  { title: 'WAITING', of: ({ waiting }) => String(waiting), right: true },
  { title: 'PARKED', of: ({ parked }) => String(parked), right: true },
  { title: 'RUNNING', of: ({ running }) => String(running), right: true },
  { title: 'SCHEDULED', of: ({ scheduled }) => String(scheduled), right: true },
  {
    title: 'OLDEST',
    of: ({ oldestWaitingAt }) => (oldestWaitingAt ? duration(now - Date.parse(oldestWaitingAt)) : ''),
    right: true,
  },
  { title: 'PAUSED SINCE (UTC)', of: ({ pausedSince }) => shortTime(pausedSince) },
];

async function list(options: { readonly json?: boolean }): Promise<void> {
  const items = await withInstallation((side) => readQueues(side, JobQueue.enum, countScheduled(side.db)));
  if (options.json) console.log(JSON.stringify({ items }));
  else createTable(columns(Date.now()), process.stdout).draw(items);
}

const say = ({ paused }: QueueChanged) => (paused ? 'paused' : 'open');

const pausing: Change<QueueChanged> = {
  verb: 'Pause',
  plural: 'queues',
  carryOut: async ({ commands }, context, name) => pauseQueue(commands, context, queueNamed(name)),
  async foresee({ store }, name) {
    const queue = queueNamed(name);
    return decidePause((await store.load(queueStream(queue), queueFold)).state, queue);
  },
  say,
};

const resuming: Change<QueueChanged> = {
  verb: 'Resume',
  plural: 'queues',
  carryOut: async ({ commands }, context, name) => resumeQueue(commands, context, queueNamed(name)),
  async foresee({ store }, name) {
    const queue = queueNamed(name);
    return decideResume((await store.load(queueStream(queue), queueFold)).state, queue);
  },
  say,
};

function queueNamed(name: string): JobQueue {
  const queue = JobQueue.enum.find((known) => known === name);
  if (!queue) {
    throw new RefusedError('not_found', `There is no queue ${name}; there are ${JobQueue.enum.join(', ')}.`);
  }
  return queue;
}
