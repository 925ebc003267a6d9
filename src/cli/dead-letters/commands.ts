import { Command, Option } from 'commander';
import { LETTER_STATUSES } from '../../projections/dead-letters/table.ts';
import { examples } from '../examples.ts';
import { listOptions } from '../output/pages.ts';
import { filterOptions } from './filter.ts';
import { listLetters } from './list.ts';
import { showLetter } from './show.ts';

/** `millrace dead-letters …` */
export function deadLettersCommand(): Command {
  const letters = new Command('dead-letters').description(
    'Jobs that failed for good, and wait for somebody to decide.',
  );

  listOptions(
    filterOptions(
      examples(letters.command('ls'), [
        ['millrace dead-letters ls', 'what waits for a decision'],
        ['millrace dead-letters ls --type http.request --from 24h --json', 'what webhooks came to in a day'],
        ['millrace dead-letters ls --status discarded', 'what was given up'],
      ])
        .description('List dead letters, the newest first.')
        .addOption(
          new Option('--status <status>', 'what became of them').choices(LETTER_STATUSES).default('dead'),
        ),
    ),
  ).action(listLetters);

  examples(letters.command('show'), [['millrace dead-letters show job-0fA1b2C3d4E5f6G7h8I9j0', '']])
    .description('Show a dead letter and each attempt that failed, with its worker and its trace.')
    .argument('<id>', 'of the job')
    .option('--json', 'print JSON: the letter, with its failed attempts')
    .action(showLetter);

  return letters;
}
