import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import type { Db } from '../../app/base.ts';
import { cancelRebuild, foreseeCancel, foreseeRebuild, rebuildReadModel } from '../../app/rebuilds.ts';
import type { CommandResult } from '../../commands/handle.ts';
import { type RebuildView, viewRebuild } from '../../projections/rebuild/progress.ts';
import { agreed, type ChangeOptions, changeOptions, checked, contextOf, RefusedError } from '../changes.ts';
import { examples } from '../examples.ts';
import { withInstallation } from '../installation.ts';
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
  checked(`Rebuild ${name}?`, options);
  await withInstallation(async (side, { config }) => {
    const { db, commands } = side;
    const foreseen = await foreseeRebuild(db, name);
    if (!foreseen.ok) throw new RefusedError(foreseen.refusal.code, foreseen.refusal.detail);
    const { events } = foreseen;
    if (options.dryRun) {
      if (options.json) console.log(JSON.stringify({ projection: name, events }));
      else console.log(`${events} events would be read.`);
      return;
    }
    await agreed(`Rebuild the read model ${name} from ${events} events?`, options);
    const settings = { park: options.park ?? false, drop: options.drop ?? false };
    const deps = { db, commands, partitions: config.PARTITIONS };
    const begun = done(await rebuildReadModel(deps, contextOf(config, options), name, settings));
    if (!options.wait) return say(begun, options);
    const ended = await followed(db, begun, options);
    say(ended, options);
    if (ended.phase !== 'swapped') process.exitCode = 1;
  });
}

async function cancel(name: string, options: ChangeOptions): Promise<void> {
  checked(`End the rebuild of ${name}?`, options);
  await withInstallation(async (side, { config }) => {
    const { db, commands } = side;
    const foreseen = await foreseeCancel(db, name);
    if (!foreseen.ok) throw new RefusedError(foreseen.refusal.code, foreseen.refusal.detail);
    if (options.dryRun) return say(foreseen.rebuild, options);
    await agreed(`End the rebuild of ${name}?`, options);
    const deps = { db, commands, partitions: config.PARTITIONS };
    say(done(await cancelRebuild(deps, contextOf(config, options), name)), options);
  });
}

function done(result: CommandResult<RebuildView>): RebuildView {
  if (result.kind === 'refused') throw new RefusedError(result.refusal.code, result.refusal.detail);
  if (result.kind !== 'done') throw new Error('This was done before.');
  return result.body;
}

/** Until it is over, whoever ended it. */
async function followed(
  db: Db,
  { projection, version, generation }: RebuildView,
  { json }: ChangeOptions,
): Promise<RebuildView> {
  for (;;) {
    const row = await db
      .selectFrom('rebuilds')
      .selectAll()
      .where('projection', '=', projection)
      .where('version', '=', version)
      .where('generation', '=', generation)
      .orderBy('id', 'desc')
      .executeTakeFirstOrThrow();
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
