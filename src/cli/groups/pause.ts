import type { Command } from 'commander';
import { changeGroup, foreseeGroupChange, type GroupChange, groupOfReadModel } from '../../app/groups.ts';
import { agreed, type ChangeOptions, changeOptions, contextOf, RefusedError } from '../changes.ts';
import { examples } from '../examples.ts';
import { withInstallation } from '../installation.ts';

/** Adds `pause` and `resume` to `millrace projections`. */
export function projectionPauseCommands(projections: Command): void {
  pauseCommands(projections, readModelNamed, {
    what: 'read model',
    pause: 'a read model: it stays as it is until it is resumed. Commands go on, and all others do',
    resume: 'a read model: it goes on where it stands',
    example: 'jobs',
  });
}

/** Adds `pause` and `resume` to a command. @param groupOf the group that a name stands for */
export function pauseCommands(
  parent: Command,
  groupOf: (name: string) => string,
  words: Readonly<Record<GroupChange | 'what' | 'example', string>>,
): void {
  const path = `millrace ${parent.name()}`;
  for (const change of ['pause', 'resume'] as const) {
    const reason = change === 'pause' ? 'their server is moving' : 'it has moved';
    changeOptions(
      examples(parent.command(change), [
        [`${path} ${change} ${words.example} --dry-run`, 'whether it would change anything'],
        [`${path} ${change} ${words.example} --reason "${reason}" --yes`, ''],
      ])
        .description(`${VERBS[change]} ${words[change]}.`)
        .argument('<name>', `of the ${words.what}`),
    ).action((name: string, options: ChangeOptions) => carryOut(change, groupOf(name), options));
  }
}

const VERBS: Record<GroupChange, string> = { pause: 'Pause', resume: 'Resume' };

async function carryOut(change: GroupChange, group: string, options: ChangeOptions): Promise<void> {
  await agreed(`${VERBS[change]} ${group}?`, options);
  await withInstallation(async (side, { config }) => {
    if (options.dryRun) {
      const foreseen = await foreseeGroupChange(side.db, change, group);
      if (!foreseen.ok) throw new RefusedError(foreseen.refusal.code, foreseen.refusal.detail);
      const { changes } = foreseen;
      if (options.json) console.log(JSON.stringify({ id: group, dryRun: true, changes }));
      else console.log(`${group}: would ${changes ? `be ${change}d` : 'stay as it is'}`);
      return;
    }
    const result = await changeGroup(side, contextOf(config, options), change, group);
    if (result.kind === 'refused') throw new RefusedError(result.refusal.code, result.refusal.detail);
    if (result.kind !== 'done') throw new Error('This was done before.');
    const { body, position } = result;
    if (options.json) console.log(JSON.stringify({ ...body, position }));
    else console.log(`${group}: ${body.paused ? 'paused' : 'running'}`);
  });
}

function readModelNamed(name: string): string {
  const group = groupOfReadModel(name);
  if (group === undefined) throw new RefusedError('not_found', `There is no read model ${name}.`);
  return group;
}
