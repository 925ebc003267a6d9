import type { CommandContext, CommandDeps, CommandResult } from '../commands/handle.ts';
import { recordOperation } from '../commands/operations.ts';
import { NOTIFIER } from '../consumers/notifier.ts';
import { SCHEDULES_GROUP } from '../consumers/schedules.ts';
import { TIMERS_GROUP } from '../consumers/timers.ts';
import { laneGroup } from '../consumers/workers.ts';
import { type Decision, refuse } from '../domain/decision.ts';
import { JobQueue } from '../domain/jobs/events.ts';
import { LEDGER_GROUP } from '../eventstore/checkpoints.ts';
import { pauseChanges, pausedGroups, pauseGroup, resumeGroup } from '../eventstore/pauses.ts';
import { projections } from '../features.ts';
import { groupOf } from '../projections/projection.ts';
import type { Db } from './base.ts';

/** An ordered group of this code: the ledger, a projection, or a reactor. */
export type KnownGroup = { readonly name: string; readonly kind: 'ledger' | 'projection' | 'reactor' };

export const REACTORS = [NOTIFIER] as const;

/** The ordered groups that this code runs. */
export function knownGroups(): readonly KnownGroup[] {
  return [
    { name: LEDGER_GROUP, kind: 'ledger' },
    ...Object.values(projections).map((projection) => ({
      name: groupOf(projection),
      kind: 'projection' as const,
    })),
    ...REACTORS.map((name) => ({ name, kind: 'reactor' as const })),
  ];
}

export function groupNamed(name: string): KnownGroup | undefined {
  return knownGroups().find((group) => group.name === name);
}

/** The group that keeps a read model up to date. Undefined: there is no such read model. */
export function groupOfReadModel(name: string): string | undefined {
  const found = Object.values(projections).find((projection) => projection.name === name);
  return found && groupOf(found);
}

export type GroupChange = 'pause' | 'resume';
export type GroupChanged = { readonly id: string; readonly version: number; readonly paused: boolean };

export type GroupDeps = {
  readonly db: Db;
  readonly commands: CommandDeps;
  /** Tells the processes that run the group to look. May get lost: they look by themselves within a second. */
  readonly hintGroup: (group: string) => void;
};

/** Whether it can be paused. Refused with `not_found`, `group_not_pausable`. */
export function pausable(name: string): Decision<never> {
  const group = groupNamed(name);
  const queue = JobQueue.enum.find((each) => laneGroup(each) === name);
  if (queue) {
    return refuse(
      'group_not_pausable',
      `${name} takes work, in no order: to stop it, pause its queue (millrace queues pause ${queue}).`,
    );
  }
  if (name === TIMERS_GROUP || name === SCHEDULES_GROUP) {
    return refuse(
      'group_not_pausable',
      `${name} are not paused: what comes of them waits in a paused queue.`,
    );
  }
  if (!group) {
    const names = knownGroups().map((known) => known.name);
    return refuse('not_found', `There is no group ${name}; there are ${names.join(', ')}.`);
  }
  if (group.kind !== 'ledger') return { ok: true, events: [] };
  return refuse(
    'group_not_pausable',
    'The ledger is never paused: what it has not copied yet is lost with Redis, and the log can not be trimmed before it has.',
  );
}

/** Whether a change would change anything. Refused as the change would be. */
export async function foreseeGroupChange(
  db: Db,
  change: GroupChange,
  name: string,
): Promise<{ readonly ok: true; readonly changes: boolean } | ReturnType<typeof refuse>> {
  const decision = pausable(name);
  if (!decision.ok) return decision;
  return { ok: true, changes: (await pausedGroups(db)).has(name) === (change === 'resume') };
}

/**
 * Pauses a group, or lets it go on, in all processes within about a second. It stays so through restarts and
 * recoveries. Doing so again changes nothing, but is recorded like any operation.
 */
export async function changeGroup(
  deps: GroupDeps,
  context: CommandContext,
  change: GroupChange,
  name: string,
): Promise<CommandResult<GroupChanged>> {
  const decision = pausable(name);
  if (!decision.ok) return { kind: 'refused', refusal: decision.refusal };
  const recorded = await recordOperation(deps.commands, context, {
    operation: `group.${change}`,
    target: name,
    parameters: {},
  });
  if (recorded.kind !== 'done') return recorded;
  const asked = {
    group: name,
    operation: recorded.body.id,
    by: context.actor,
    reason: context.reason ?? '',
  };
  await (change === 'pause' ? pauseGroup : resumeGroup)(deps.db, asked);
  deps.hintGroup(name);
  const [version, paused] = await Promise.all([pauseChanges(deps.db, name), pausedGroups(deps.db)]);
  return { ...recorded, body: { id: name, version, paused: paused.has(name) } };
}

/** Whether its cursors can be moved. Refused with `not_found`, `group_not_seekable`, `group_not_paused`. */
export async function seekable(db: Db, name: string): Promise<Decision<never>> {
  const group = groupNamed(name);
  if (group?.kind === 'projection') {
    return refuse(
      'group_not_seekable',
      'The rows of a read model follow from all events up to its checkpoint: moved, it would be wrong. To make it anew: millrace projections rebuild.',
    );
  }
  if (group?.kind === 'ledger') {
    return refuse(
      'group_not_seekable',
      'The ledger holds every event once: there is nowhere else for it to be.',
    );
  }
  const known = pausable(name);
  if (!known.ok || (await pausedGroups(db)).has(name)) return known;
  return refuse('group_not_paused', `${name} is reading: pause it first (millrace groups pause ${name}).`);
}
