import { type Command, Option } from 'commander';
import { DeadLetterReason, JobQueue } from '../../domain/jobs/events.ts';
import type { LetterFilter } from '../../projections/dead-letters/queries.ts';
import { readText } from '../output/text.ts';
import { checkTimes, readTime } from '../output/time.ts';

export type FilterOptions = Omit<LetterFilter, 'ids' | 'reason'> & { readonly diedOf?: DeadLetterReason };

/** The options by which letters are chosen: all of what is named must be so. */
export function filterOptions(command: Command): Command {
  return command
    .option('--type <type>', 'only those of a type', readText(64))
    .addOption(new Option('--queue <queue>', 'only those of a queue').choices(JobQueue.enum))
    .option('--fingerprint <hash>', 'only those whose last failure was of this kind', readText(64))
    .option('--ordering-key <key>', 'only those with this ordering key', readText(200))
    .option('--owner <account>', 'only those of an account', readText(80))
    .addOption(
      new Option('--died-of <what>', 'only those that failed for good for this').choices(
        DeadLetterReason.enum,
      ),
    )
    .option('--from <time>', 'died at or after: RFC 3339, or 15m, 2h, 7d ago', readTime)
    .option('--to <time>', 'died before', readTime);
}

/** Only what was named. Throws `UsageError` where nothing can be so. */
export function filterOf(options: FilterOptions) {
  checkTimes(options);
  const { type, queue, fingerprint, orderingKey, owner, diedOf: reason, from, to } = options;
  return {
    ...(type === undefined ? {} : { type }),
    ...(queue === undefined ? {} : { queue }),
    ...(fingerprint === undefined ? {} : { fingerprint }),
    ...(orderingKey === undefined ? {} : { orderingKey }),
    ...(owner === undefined ? {} : { owner }),
    ...(reason === undefined ? {} : { reason }),
    ...(from === undefined ? {} : { from }),
    ...(to === undefined ? {} : { to }),
  };
}
