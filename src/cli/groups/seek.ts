import { type Command, InvalidArgumentError } from 'commander';
import { seekable } from '../../app/groups.ts';
import { type CursorMove, isMove, planSeek, planUndo, type SeekTarget, seek } from '../../consumers/seek.ts';
import { type Position, parsePosition } from '../../domain/position.ts';
import { type ChangeOptions, changeOptions, checked, RefusedError } from '../changes.ts';
import { examples } from '../examples.ts';
import { UsageError } from '../exit.ts';
import { withInstallation } from '../installation.ts';
import { operate } from '../operate.ts';
import { type Column, createTable } from '../output/table.ts';
import { readTime } from '../output/time.ts';
import { checkPartitions } from '../partitions.ts';

type SeekOptions = ChangeOptions & { readonly to?: SeekTarget; readonly undo?: boolean };

/** Adds `seek` to `millrace groups`. */
export function seekCommand(groups: Command): void {
  changeOptions(
    examples(groups.command('seek'), [
      ['millrace groups seek notifier --to 2h --dry-run', 'where that is, partition by partition'],
      [
        'millrace groups seek notifier --to end --reason "nobody wants to hear of these" --yes',
        'pass over them',
      ],
      ['millrace groups seek notifier --undo --reason "they do" --yes', 'back to where it was'],
    ])
      .description(
        'Put a paused reactor elsewhere in the log. What it passes over so it never reacts to; what it reads again it has reacted to already, and does nothing about once more: for that there is replay. Where it was is kept, for --undo.',
      )
      .argument('<name>', 'of the group')
      .option(
        '--to <where>',
        'beginning, end, what was decided since a time (15m, 2h, RFC 3339), or after a position; several positions, one of a partition each',
        readTarget,
      )
      .option('--undo', 'take back the last seek that was not taken back'),
  ).action(carryOut);
}

async function carryOut(name: string, options: SeekOptions): Promise<void> {
  const { to, undo = false } = options;
  if ((to === undefined) !== undo) throw new UsageError('Say where: --to, or --undo.');
  checked(`Seek ${name}?`, options);
  await withInstallation(async (side, { config }) => {
    if (to?.kind === 'positions') checkPartitions(to.positions, config.PARTITIONS);
    const allowed = await seekable(side.db, name);
    if (!allowed.ok) throw new RefusedError(allowed.refusal.code, allowed.refusal.detail);
    const { moves, undoes } =
      to === undefined
        ? await planUndo(side, name)
        : { moves: await planSeek(side, name, to), undoes: undefined };
    const away = moves.filter(isMove);
    if (!options.json || options.dryRun) say(name, away, options, undoes);
    if (options.dryRun || away.length === 0) return;
    const { actor, reason, causation } = await operate(side, config, options, {
      question: `Move ${away.length} cursors of ${name}?`,
      operation: 'group.seek',
      target: name,
      parameters: undoes === undefined ? { to: shownTarget(to) } : { undoes },
    });
    const asked = { reactor: name, operation: causation, by: actor, reason };
    const done = await seek(side, undoes === undefined ? asked : { ...asked, undoes }, moves);
    side.hintGroup(name);
    if (options.json)
      console.log(JSON.stringify({ id: name, operation: causation, partitions: done.map(viewOf) }));
    else console.log(`${name}: moved. It goes on with: millrace groups resume ${name}`);
  });
}

function say(
  name: string,
  moves: readonly CursorMove[],
  { json, dryRun }: SeekOptions,
  undoes?: string,
): void {
  if (json) {
    console.log(
      JSON.stringify({ id: name, dryRun, ...(undoes ? { undoes } : {}), partitions: moves.map(viewOf) }),
    );
  } else if (moves.length === 0) console.log(`${name}: would stay where it is`);
  else createTable(columns, process.stdout).draw(moves.map(viewOf));
}

const viewOf = ({ partition, from, to }: CursorMove) => ({
  partition,
  from: from.seq,
  to: to.seq,
  passedOver: Math.max(0, to.seq - from.seq),
  readAgain: Math.max(0, from.seq - to.seq),
});

const columns: readonly Column<ReturnType<typeof viewOf>>[] = [
  { title: 'PARTITION', of: ({ partition }) => String(partition), right: true },
  { title: 'FROM', of: ({ from }) => String(from), right: true },
  { title: 'TO', of: ({ to }) => String(to), right: true },
  { title: 'PASSED OVER', of: ({ passedOver }) => String(passedOver), right: true },
  { title: 'READ AGAIN', of: ({ readAgain }) => String(readAgain), right: true },
];

function readTarget(text: string): SeekTarget {
  if (text === 'beginning' || text === 'end') return { kind: text };
  const parts = text.split(',').map((part) => parsePosition(part.trim()));
  const positions = parts.filter((part): part is Position => part !== undefined);
  if (positions.length === parts.length) {
    const partitions = new Set(positions.map(({ partition }) => partition));
    if (partitions.size === positions.length) return { kind: 'positions', positions };
    throw new InvalidArgumentError('Name one position of a partition.');
  }
  return { kind: 'time', since: new Date(readTime(text)) };
}

function shownTarget(to: SeekTarget | undefined): unknown {
  switch (to?.kind) {
    case 'time':
      return to.since.toISOString();
    case 'positions':
      return to.positions;
    default:
      return to?.kind;
  }
}
