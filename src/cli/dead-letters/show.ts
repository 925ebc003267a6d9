import { type FailedAttempt, failedAttempts } from '../../projections/dead-letters/attempts.ts';
import { findDeadLetter } from '../../projections/dead-letters/queries.ts';
import { RefusedError } from '../changes.ts';
import { ledgerHistory } from '../history.ts';
import { withReadModels } from '../installation.ts';
import { jobIdOf } from '../job-id.ts';
import { errorText } from '../output/errors.ts';
import { type Column, createTable, drawFacts, type Fact, style } from '../output/table.ts';
import { shortTime } from '../output/time.ts';
import { type ShownLetter, shownLetters } from './letters.ts';
import { fingerprintOf } from './list.ts';

const columns: readonly Column<FailedAttempt>[] = [
  { title: 'ATTEMPT', of: ({ attempt }) => String(attempt), right: true },
  { title: 'FAILED (UTC)', of: ({ at }) => shortTime(at) },
  { title: 'WORKER', of: ({ worker }) => worker ?? '' },
  { title: 'TRACE', of: ({ traceId }) => traceId ?? '' },
  {
    title: 'ERROR',
    of: ({ error, ignoredAbort }) => errorText(error) + (ignoredAbort ? ' (ran on)' : ''),
    cut: true,
  },
];

/** `millrace dead-letters show` */
export function showLetter(text: string, options: { readonly json?: boolean }): Promise<void> {
  const id = jobIdOf(text);
  return withReadModels(async (db, _hmac, config, opened) => {
    const found = await findDeadLetter(db, id);
    const [letter] = found ? await shownLetters(db, [found], opened) : [];
    if (!letter) throw new RefusedError('not_found', `The job ${id} is no dead letter, and never was one.`);
    const failures = await opened(letter.owner, await failedAttempts(ledgerHistory(db, config, id)));
    if (options.json) {
      console.log(JSON.stringify({ ...letter, failures }));
      return;
    }
    process.stdout.write(`${style(process.stdout, 'bold', id)}\n`);
    drawFacts(factsOf(letter, failures.at(-1)), process.stdout);
    process.stdout.write('\n');
    createTable(columns, process.stdout).draw(failures);
  });
}

function factsOf(letter: ShownLetter, last: FailedAttempt | undefined): Fact[] {
  return [
    ['type', letter.type],
    ['queue', letter.queue],
    ['owner', letter.owner],
    ['ordering key', letter.orderingKey],
    ['status', letter.status, letter.status === 'dead' ? 'red' : undefined],
    ['died of', letter.reason],
    ['died', `${letter.diedAt}${letter.deaths > 1 ? `, ${letter.deaths} times in all` : ''}`],
    ['settled', letter.settledAt],
    ['by', letter.settledBy],
    ['because', letter.settledFor],
    ['behind it', letter.waiting > 0 ? `${letter.waiting} jobs of its ordering key` : undefined],
    ['fingerprint', fingerprintOf(letter.error)],
    ['error', last?.stack ?? errorText(letter.error)],
  ];
}
