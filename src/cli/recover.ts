import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { openRecovery } from '../app/recovering.ts';
import type { Config } from '../config.ts';
import { foresee, recover as makeAnew } from '../consumers/recovery/recover.ts';
import type { Salvage } from '../consumers/recovery/salvage.ts';
import type { Operation } from '../domain/operations.ts';
import { acceptLosses, type OpenLoss, openLosses } from '../eventstore/losses.ts';
import { StoreUnavailableError } from '../eventstore/types.ts';
import { agreed, type ChangeOptions, changeOptions, checked, contextOf, RefusedError } from './changes.ts';
import { examples } from './examples.ts';
import { withInstallation, withPostgres } from './installation.ts';
import { record } from './operate.ts';

/** Commits go on within a second or two. */
const RECORD_WITHIN_MS = 5_000;

/** Adds `millrace recover`. */
export function recoverCommand(command: Command): void {
  changeOptions(
    examples(command, [
      ['millrace recover --dry-run', 'what is wrong, and what would be lost'],
      ['millrace recover --reason "the disk of the old server is gone" --yes', ''],
    ]).description(
      'Go on when Redis has lost something that nobody can give it back. Where it holds less than the ledger, or another history, it is made anew from the ledger: work, timers, schedules and keys of unfinished jobs, with all that its log holds beyond that. Where it lost its last writes before the ledger had them, commits go on without these. Positions of what is lost are 410 from then on. No process needs a restart.',
    ),
  ).action(recover);
}

async function recover(options: ChangeOptions): Promise<void> {
  checked('Go on?', options);
  await withPostgres(async (db, config) => {
    if (await madeAnew(config, options)) return;
    const losses = await openLosses(db);
    if (!options.json) for (const loss of losses) console.log(lineOf(loss));
    if (losses.length === 0 || options.dryRun) return say(losses, false, options);
    const events = losses.reduce((sum, { seq, lastSeq }) => sum + seq - lastSeq, 0);
    await agreed(`Go on without these ${events} events, for good?`, options);
    const { actor, reason = '' } = contextOf(config, options);
    await acceptLosses(db, losses, { by: actor, reason });
    if ((await openLosses(db)).length > 0) {
      throw new RefusedError(
        'more_is_missing',
        'Meanwhile more was found to be missing: see it, and recover again.',
      );
    }
    say(losses, true, options);
    await recordAfterwards(config, options, { accepted: events });
  });
}

/** Whether there was need of it. */
async function madeAnew(config: Config, options: ChangeOptions): Promise<boolean> {
  const recovery = await openRecovery(config);
  try {
    const plan = await foresee(recovery);
    if (!plan) return false;
    if (!options.json) {
      console.log(plan.problem.split(' Commits stay stopped')[0]);
      for (const line of linesOf(plan.partitions)) console.log(line);
    }
    if (options.dryRun) {
      if (options.json) console.log(JSON.stringify({ ...plan, recovered: false }));
      return true;
    }
    await agreed('Make Redis anew from the ledger?', options);
    const { actor, reason = '' } = contextOf(config, options);
    const say = options.json ? () => {} : console.log;
    const partitions = await makeAnew({ ...recovery, say }, { by: actor, reason });
    if (!partitions) {
      // Another operator was quicker: what he did is his.
      say('Somebody else has made Redis anew meanwhile: there is nothing left to recover.');
      if (options.json) console.log(JSON.stringify({ problem: plan.problem, recovered: false }));
      return true;
    }
    if (options.json) console.log(JSON.stringify({ problem: plan.problem, partitions, recovered: true }));
    else say('Redis is made anew: commits go on within a second or two.');
    await recordAfterwards(config, options, { madeAnew: true });
    return true;
  } finally {
    await recovery.close();
  }
}

/**
 * Among what operators did. Nothing could be committed before; and should it not be possible now, the tables
 * `recoveries` and `losses` have it all the same.
 */
async function recordAfterwards(
  config: Config,
  options: ChangeOptions,
  parameters: Operation['parameters'],
): Promise<void> {
  const operation = { operation: 'redis.recover', target: 'redis', parameters };
  const deadline = Date.now() + RECORD_WITHIN_MS;
  for (;;) {
    try {
      await withInstallation((side) => record(side, contextOf(config, options), operation));
      return;
    } catch (error) {
      if (Date.now() > deadline || !(error instanceof StoreUnavailableError)) {
        const why = error instanceof Error ? error.message : String(error);
        console.error(`It is not in \`millrace ops ls\`, as nothing can be committed yet: ${why}`);
        return;
      }
      await sleep(200);
    }
  }
}

function linesOf(partitions: readonly Salvage[]): readonly string[] {
  return partitions.map(
    ({ partition, ledgerSeq, whole, strange }) =>
      `partition ${partition}: the ledger has ${ledgerSeq} events; of the log ${whole} more can be taken over${strange > 0 ? `, and ${strange} can't be placed` : ''}`,
  );
}

function lineOf({ partition, epoch, seq, lastSeq, noticedAt }: OpenLoss): string {
  const events = seq - lastSeq === 1 ? `event ${seq}` : `events ${lastSeq + 1} to ${seq}`;
  return `partition ${partition}, epoch ${epoch}: ${events}, missed since ${noticedAt.toISOString()}`;
}

function say(losses: readonly OpenLoss[], accepted: boolean, { json }: ChangeOptions): void {
  if (json) console.log(JSON.stringify({ lost: losses, accepted }));
  else if (losses.length === 0) console.log('Nothing is missing: there is nothing to recover.');
  else if (accepted) console.log('Accepted: commits go on within a second or two.');
}
