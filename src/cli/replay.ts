import { type Command, InvalidArgumentError, Option } from 'commander';
import { foreseeReplay, type PlannedReplay, type ReplayWanted, requestReplay } from '../app/replays.ts';
import type { SideEffects } from '../domain/replays.ts';
import { REPLAY_RATES } from '../http/replay.ts';
import { agreed, type ChangeOptions, changeOptions, checked, contextOf, RefusedError } from './changes.ts';
import { examples } from './examples.ts';
import { UsageError } from './exit.ts';
import { withInstallation } from './installation.ts';
import { checkTimes, readTime, shortTime } from './output/time.ts';
import { expectSuccess, watchJob } from './watching/watch-job.ts';

type Options = ChangeOptions & {
  readonly group: string;
  readonly from: string;
  readonly to?: string;
  readonly type?: readonly string[];
  readonly sideEffects: SideEffects;
  readonly rate?: number;
  readonly plan?: string;
  readonly follow?: boolean;
};

/** Adds `millrace replay`. */
export function replayCommand(command: Command): void {
  changeOptions(
    examples(command, [
      ['millrace replay --group notifier --from 2h --dry-run', 'which events, and what would come of them'],
      [
        'millrace replay --group notifier --from 2026-11-20T10:00:00Z --to 2026-11-20T12:00:00Z --side-effects on --rate 20 --plan 5f3c9a0e11d2b764 --reason "they had lost them" --yes --follow',
        'as planned, and for good',
      ],
    ])
      .description(
        'Give past events to a reactor again, beside what it reads: its cursor is not touched. Without side effects what it would do is counted; with them it is done once more, at a rate. A plan comes first, and only what was planned is done: a plan that does not hold any more is refused. A job does it, goes on when this command ends, and does nothing twice however often it is cut off.',
      )
      .requiredOption('--group <name>', 'the reactor')
      .requiredOption('--from <time>', 'decided at or after: RFC 3339, or 15m, 2h, 7d ago', readTime)
      .option('--to <time>', 'decided before (default: now)', readTime)
      .option('--type <type...>', 'only events of these types (default: all that it reacts to)')
      .addOption(
        new Option('--side-effects <what>', 'off: only count; on: do it')
          .choices(['off', 'on'])
          .default('off'),
      )
      .option(
        '--rate <n>',
        `events a second, of those that anything follows from, at most 10000 (default: ${REPLAY_RATES.on}, and ${REPLAY_RATES.off} without side effects)`,
        readRate,
      )
      .option(
        '--plan <digest>',
        'the plan that is confirmed, as --dry-run names it; needed with --yes where side effects are on',
      )
      .option('--follow', 'watch the job that does it until it ends'),
  ).action(replay);
}

async function replay(options: Options): Promise<void> {
  const { group, sideEffects, plan, json = false } = options;
  checked(`Replay to ${group}?`, options);
  if (options.yes && !options.dryRun && sideEffects === 'on' && plan === undefined) {
    throw new UsageError('Say which plan is confirmed: --plan, as --dry-run names it.');
  }
  const wanted = boundsOf(options);
  await withInstallation(async (side, base) => {
    const planned = await foreseeReplay(base.config, side, wanted);
    if (!planned.ok) throw new RefusedError(planned.refusal.code, planned.refusal.detail);
    if (options.dryRun) return say(planned.plan, options);
    if (!options.yes) {
      if (!json) say(planned.plan, options);
      await agreed(`Give ${group} these ${planned.plan.events} events again?`, options);
    }
    const { from, to, digest } = planned.plan;
    const { rate = REPLAY_RATES[sideEffects] } = options;
    const result = await requestReplay(base.config, side, contextOf(base.config, options), {
      ...wanted,
      // What was shown, though it may be a while until somebody has agreed to it.
      ...{ from: new Date(from), to: new Date(to) },
      ...{ sideEffects, rate, plan: plan ?? digest },
    });
    if (result.kind === 'refused') throw new RefusedError(result.refusal.code, result.refusal.detail);
    if (result.kind !== 'done') throw new Error('This was done before.');
    const { id } = result.body;
    if (json) console.log(JSON.stringify({ ...result.body, position: result.position }));
    else if (!options.follow) console.log(`${id} does it; to follow it: millrace jobs watch ${id}`);
    if (!options.follow) return;
    const job = await watchJob({ side, base, id, json });
    if (!json && job.result !== undefined) console.log(JSON.stringify(job.result));
    expectSuccess(job);
  });
}

function boundsOf(options: Options): ReplayWanted {
  checkTimes(options);
  const { group, from, to, type } = options;
  return {
    ...{ group, from: new Date(from) },
    ...(to === undefined ? {} : { to: new Date(to) }),
    ...(type === undefined ? {} : { types: type }),
  };
}

function say(plan: PlannedReplay, { group, sideEffects, json, dryRun }: Options): void {
  if (json) {
    console.log(JSON.stringify({ dryRun: true, group, sideEffects, ...plan }));
    return;
  }
  console.log(
    `${group} would be given ${plan.events} events, from ${shortTime(plan.from)} to ${shortTime(plan.to)} UTC:`,
  );
  for (const [type, events] of Object.entries(plan.types)) console.log(`  ${type}: ${events}`);
  for (const { partition, first, last, events } of plan.partitions) {
    console.log(`  partition ${partition}: ${events}, of seqs ${first} to ${last}`);
  }
  const jobs = Object.entries(plan.jobs).map(([type, count]) => `${count} ${type}`);
  const come = jobs.length === 0 ? 'nothing' : jobs.join(', ');
  console.log(
    sideEffects === 'on'
      ? `Enqueued would be: ${come}.`
      : `It would decide on: ${come}. Nothing would be enqueued: side effects are off.`,
  );
  if (dryRun) {
    console.log(`To confirm: --from ${plan.from} --to ${plan.to} --plan ${plan.digest}`);
  }
}

function readRate(text: string): number {
  const rate = Number(text);
  if (!Number.isInteger(rate) || rate < 1 || rate > 10_000) {
    throw new InvalidArgumentError('It is a whole number from 1 to 10000.');
  }
  return rate;
}
