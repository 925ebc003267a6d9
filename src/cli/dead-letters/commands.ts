import { Command, InvalidArgumentError, Option } from 'commander';
import { LETTER_STATUSES } from '../../projections/dead-letters/table.ts';
import { changeOptions } from '../changes.ts';
import { examples } from '../examples.ts';
import { listOptions } from '../output/pages.ts';
import { filterOptions } from './filter.ts';
import { listLetters } from './list.ts';
import { settleLetters } from './settle.ts';
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

  settleOptions(
    examples(letters.command('redrive'), [
      ['millrace dead-letters redrive job-0fA1b2C3d4E5f6G7h8I9j0 --reason "their server is back"', ''],
      [
        'millrace dead-letters redrive --fingerprint 5f3c9a0e11d2b764 --rate 10 --reason "fixed in 1.4" --yes --follow',
        'ten a second, with a progress bar',
      ],
    ]).description(
      'Run the jobs of dead letters again, the oldest first: those that are dead when it is asked for. A job does it, and goes on when this command ends.',
    ),
  ).action(settleLetters('redrive'));

  settleOptions(
    examples(letters.command('discard'), [
      ['millrace dead-letters discard --type http.request --to 30d --dry-run', 'how many, and which'],
      ['millrace dead-letters discard --type http.request --to 30d --reason "too late for these" --yes', ''],
    ]).description('Give dead letters up: what waits behind them goes on. A job does it, as with redrive.'),
  ).action(settleLetters('discard'));

  return letters;
}

function settleOptions(command: Command): Command {
  return changeOptions(
    filterOptions(command.argument('[id...]', 'of the jobs'))
      .option('--all', 'all of them')
      .option('--rate <n>', 'how many a second, at most 1000', readRate, 50)
      .option('--follow', 'watch the job that does it until it ends'),
  );
}

function readRate(text: string): number {
  const rate = Number(text);
  if (!Number.isInteger(rate) || rate < 1 || rate > 1000) {
    throw new InvalidArgumentError('It is a whole number from 1 to 1000.');
  }
  return rate;
}
