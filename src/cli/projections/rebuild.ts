import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Db } from '../../app/base.ts';
import type { ReadModelName } from '../../app/read-models.ts';
import { ledgerHeads } from '../../eventstore/checkpoints.ts';
import { projections } from '../../features.ts';
import { type RebuildView, viewRebuild } from '../../projections/rebuild/progress.ts';
import {
  activeRebuilds,
  beginRebuild,
  giveUpRebuild,
  lastRebuilds,
  RebuildRefusedError,
} from '../../projections/rebuild/rebuilds.ts';
import { type ChangeOptions, changeOptions, checked, RefusedError } from '../changes.ts';
import { examples } from '../examples.ts';
import { UsageError } from '../exit.ts';
import { withInstallation } from '../installation.ts';
import { operate } from '../operate.ts';
import { duration } from '../output/time.ts';

type RebuildOptions = ChangeOptions & {
  readonly park?: boolean;
  readonly drop?: boolean;
  readonly wait?: boolean;
};

const LOOK_MS = 500;

/** Adds `rebuild` and `cancel` to `millrace projections`. */
export function rebuildCommands(group: Command): void {
  changeOptions(
    examples(group.command('rebuild'), [
      ['millrace projections rebuild jobs --dry-run', 'how much that would be'],
      ['millrace projections rebuild jobs --reason "a row was wrong" --yes --wait', ''],
    ])
      .description(
        'Make a read model anew from the ledger, beside the one that is read, and go over to it once it has caught up. Queries are served all the while, and no value goes back. Projectors do the work; cut off, it goes on where it was. An event that can not be applied ends it, and leaves everything as it is.',
      )
      .argument('<name>', 'of the read model')
      .option('--park', 'park what can not be applied, as the live read model does, and go on')
      .option('--drop', 'drop the old table afterwards; else the next rebuild does')
      .option('--wait', 'show how far it is until it is over; 1 if it is not live then'),
  ).action(rebuild);
  changeOptions(
    examples(group.command('cancel'), [
      ['millrace projections cancel jobs --reason "too much load now" --yes', ''],
    ])
      .description('End a rebuild that is under way; nothing is left of it.')
      .argument('<name>', 'of the read model'),
  ).action(cancel);
}

async function rebuild(name: string, options: RebuildOptions): Promise<void> {
  const projection = projections[nameOf(name)];
  checked(`Rebuild ${name}?`, options);
  await withInstallation(async (side, { config }) => {
    const { db } = side;
    const events = [...(await ledgerHeads(db)).values()].reduce((sum, seq) => sum + seq, 0);
    if (options.dryRun) {
      const [underWay] = await activeRebuilds(db, name);
      const plan = {
        projection: name,
        version: projection.version,
        events,
        underWay: underWay !== undefined,
      };
      if (options.json) console.log(JSON.stringify(plan));
      else
        console.log(
          `${events} events would be read.${underWay ? ' A rebuild is under way: no other can begin.' : ''}`,
        );
      return;
    }
    const settings = { parks: options.park ?? false, dropsPrevious: options.drop ?? false };
    const { actor, reason } = await operate(side, config, options, {
      question: `Rebuild the read model ${name} from ${events} events?`,
      ...{ operation: 'projection.rebuild', target: name, parameters: settings },
    });
    const begun = await beginRebuild(db, projection, {
      ...{ ...settings, partitions: config.PARTITIONS, by: actor, reason },
    }).catch(refused);
    if (!options.wait) return say(viewRebuild(begun), options);
    const ended = await followed(db, begun.id, options);
    say(ended, options);
    if (ended.phase !== 'swapped') process.exitCode = 1;
  });
}

async function cancel(name: string, options: ChangeOptions): Promise<void> {
  nameOf(name);
  checked(`End the rebuild of ${name}?`, options);
  await withInstallation(async (side, { config }) => {
    const { db } = side;
    const [underWay] = await activeRebuilds(db, name);
    if (!underWay) throw new RefusedError('no_rebuild', `No rebuild of ${name} is under way.`);
    if (options.dryRun) return say(viewRebuild(underWay), options);
    const { generation } = underWay;
    const { actor, reason } = await operate(side, config, options, {
      question: `End the rebuild of ${name}?`,
      ...{ operation: 'projection.rebuild.cancel', target: name, parameters: { generation } },
    });
    await giveUpRebuild(db, underWay.id, 'cancelled', `cancelled by ${actor}: ${reason}`);
    const ended = (await lastRebuilds(db)).find(({ id }) => id === underWay.id) ?? underWay;
    say(viewRebuild(ended), options);
  });
}

/** Until it is over, whoever ended it. */
async function followed(db: Db, id: number, { json }: ChangeOptions): Promise<RebuildView> {
  for (;;) {
    const row = await db.selectFrom('rebuilds').selectAll().where('id', '=', id).executeTakeFirstOrThrow();
    const view = viewRebuild(row);
    if (view.endedAt !== undefined) return view;
    if (!json && process.stderr.isTTY) process.stderr.write(`\r\x1b[2K${lineOf(view)}`);
    await sleep(LOOK_MS);
  }
}

/** `jobs: filling, 120000 of 1000000 events, 51000/s, about 17 s left` */
export function lineOf(view: RebuildView): string {
  const { projection, phase, position, target, rate, secondsLeft, problem } = view;
  const parts = [`${projection}: ${phase}`, `${position} of ${target} events`];
  if (rate !== undefined) parts.push(`${rate}/s`);
  if (secondsLeft !== undefined) parts.push(`about ${duration(secondsLeft * 1_000)} left`);
  if (problem !== undefined) parts.push(problem);
  return parts.join(', ');
}

function say(view: RebuildView, { json }: ChangeOptions): void {
  if (!json && process.stderr.isTTY) process.stderr.write('\r\x1b[2K');
  console.log(json ? JSON.stringify(view) : lineOf(view));
}

function nameOf(name: string): ReadModelName {
  const known = Object.keys(projections) as ReadModelName[];
  const found = known.find((each) => each === name);
  if (!found) throw new UsageError(`There is no read model ${name}; there are ${known.join(', ')}.`);
  return found;
}

function refused(error: unknown): never {
  if (error instanceof RebuildRefusedError) throw new RefusedError('rebuild_refused', error.message);
  throw error;
}
