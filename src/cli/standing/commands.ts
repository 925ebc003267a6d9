import { Command } from 'commander';
import { examples } from '../examples.ts';
import { narrowingOptions, verify } from '../verify.ts';
import { parkedList } from './parked.ts';
import { listGroups, listProjections, showStatus } from './show.ts';

/** `millrace status` */
export function statusCommand(): Command {
  return examples(new Command('status'), [
    ['millrace status', ''],
    ['millrace status --watch', 'again every two seconds'],
  ])
    .description(
      'Show where everything stands: servers, partitions, groups, processes, queues. Ends with 1 where something is wrong: a server away, commits stopped, events parked, a partition that nobody has, no process of a role.',
    )
    .option('--watch', 'show it again every two seconds, until you end it')
    .option('--json', 'print JSON; with --watch a line each time')
    .action(showStatus);
}

/** Adds `ls` to `millrace groups`. */
export function groupsList(groups: Command): void {
  examples(groups.command('ls'), [['millrace groups ls', '']])
    .description('List the consumer groups: how far each is behind, and who has how many of its partitions.')
    .option('--json', 'print JSON: {items}')
    .action(listGroups);
}

/** Adds `ls` and `verify` to `millrace projections`. */
export function projectionsList(projections: Command): void {
  examples(projections.command('ls'), [['millrace projections ls', '']])
    .description('List the read models: position, target, lag, what each could not apply, and rebuilds.')
    .option('--json', 'print JSON: {items}')
    .action(listProjections);
  parkedList(projections);
  const verifying = examples(projections.command('verify'), [
    ['millrace projections verify jobs --since 24h', ''],
  ])
    .description('Compute a read model anew and compare: `millrace verify`.')
    .argument('[name]', 'of the read model; everything, where none is named');
  narrowingOptions(verifying).option('--json', 'print JSON').action(verify);
}
