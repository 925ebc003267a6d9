import type { Command } from 'commander';
import { acceptLosses, type OpenLoss, openLosses } from '../eventstore/losses.ts';
import { agreed, type ChangeOptions, changeOptions, contextOf } from './changes.ts';
import { examples } from './examples.ts';
import { withPostgres } from './installation.ts';

/** Adds `millrace recover`. */
export function recoverCommand(command: Command): void {
  changeOptions(
    examples(command, [
      ['millrace recover --dry-run', 'what was lost'],
      ['millrace recover --reason "the disk of the old server is gone" --yes', ''],
    ]).description(
      'Go on without the last writes that Redis lost before the ledger had them. What they were answered with is void from then on: positions among them are 410. Where Redis holds less than the ledger this is no help: give it back its newest append-only file.',
    ),
  ).action(recover);
}

async function recover(options: ChangeOptions): Promise<void> {
  await withPostgres(async (db, config) => {
    const losses = await openLosses(db);
    if (losses.length > 0 && !options.json) for (const loss of losses) console.log(lineOf(loss));
    if (losses.length === 0 || options.dryRun) {
      return say(losses, false, options);
    }
    const events = losses.reduce((sum, { seq, lastSeq }) => sum + seq - lastSeq, 0);
    await agreed(`Go on without these ${events} events, for good?`, options);
    const { actor, reason = '' } = contextOf(config, options);
    await acceptLosses(db, { by: actor, reason });
    say(losses, true, options);
  });
}

function lineOf({ partition, epoch, seq, lastSeq, noticedAt }: OpenLoss): string {
  const events = seq - lastSeq === 1 ? `event ${seq}` : `events ${lastSeq + 1} to ${seq}`;
  return `partition ${partition}, epoch ${epoch}: ${events}, missed since ${noticedAt.toISOString()}`;
}

function say(losses: readonly OpenLoss[], accepted: boolean, { json }: ChangeOptions): void {
  if (json) console.log(JSON.stringify({ lost: losses, accepted }));
  else if (losses.length === 0)
    console.log(
      'Nothing that Redis acknowledged is missing. /readyz says why commands are refused, if they are.',
    );
  else if (accepted) console.log('Accepted: commits go on within a second or two.');
}
