import type { CommandContext, CommandDeps, CommandResult } from '../commands/handle.ts';
import { recordOperation } from '../commands/operations.ts';
import { type Decision, refuse } from '../domain/decision.ts';
import { ledgerHeads } from '../eventstore/checkpoints.ts';
import { projections } from '../features.ts';
import { type RebuildView, viewRebuild } from '../projections/rebuild/progress.ts';
import {
  activeRebuilds,
  beginRebuild,
  giveUpRebuild,
  lastRebuilds,
  type Rebuild,
  RebuildRefusedError,
} from '../projections/rebuild/rebuilds.ts';
import type { Db } from './base.ts';

export type RebuildDeps = {
  readonly db: Db;
  readonly commands: CommandDeps;
  readonly partitions: number;
};

/** `park`: what can't be applied is parked; `drop`: the old table goes afterwards. */
export type RebuildSettings = { readonly park: boolean; readonly drop: boolean };

/** The newest rebuild of a read model of this code, under way or over. Undefined: there was none. */
export async function lastRebuild(db: Db, name: string): Promise<RebuildView | undefined> {
  const found = (await lastRebuilds(db)).filter(isOurs).find(({ projection }) => projection === name);
  return found && viewRebuild(found);
}

/** What a rebuild would read: events of all partitions, about. Refused with `not_found`, `rebuild_under_way`. */
export async function foreseeRebuild(
  db: Db,
  name: string,
): Promise<{ readonly ok: true; readonly events: number } | ReturnType<typeof refuse>> {
  const decision = await rebuildable(db, name);
  if (!decision.ok) return decision;
  return { ok: true, events: [...(await ledgerHeads(db)).values()].reduce((sum, seq) => sum + seq, 0) };
}

/** Begins to make a read model anew, once that is recorded. Projectors do the work. */
export async function rebuildReadModel(
  deps: RebuildDeps,
  context: CommandContext,
  name: string,
  settings: RebuildSettings,
): Promise<CommandResult<RebuildView>> {
  const projection = named(name);
  if (!projection) return { kind: 'refused', refusal: noSuch(name).refusal };
  const parameters = { ...settings };
  const operation = { operation: 'projection.rebuild', target: name, parameters };
  const recorded = await recordOperation(deps.commands, context, operation, () => rebuildable(deps.db, name));
  if (recorded.kind !== 'done') return recorded;
  try {
    const begun = await beginRebuild(deps.db, projection, {
      ...{ parks: settings.park, dropsPrevious: settings.drop, partitions: deps.partitions },
      ...{ operation: recorded.body.id, by: context.actor, reason: context.reason ?? '' },
    });
    return { ...recorded, body: viewRebuild(begun) };
  } catch (error) {
    if (!(error instanceof RebuildRefusedError)) throw error;
    return { kind: 'refused', refusal: { code: 'rebuild_under_way', detail: error.message } };
  }
}

/**
 * Ends the rebuild that is under way, once that is recorded: nothing is left of it. Another version's, too: its code may be
 * gone.
 */
export async function cancelRebuild(
  deps: RebuildDeps,
  context: CommandContext,
  name: string,
): Promise<CommandResult<RebuildView>> {
  const { db, commands } = deps;
  const operation = { operation: 'projection.rebuild.cancel', target: name, parameters: {} };
  const recorded = await recordOperation(commands, context, operation, async () => {
    const foreseen = await foreseeCancel(db, name);
    return foreseen.ok ? { ok: true, events: [] } : foreseen;
  });
  if (recorded.kind !== 'done') return recorded;
  // The request may come again, when another one is under way.
  const mark = `cancelled by ${context.actor} (${recorded.body.id}): `;
  const before = (await rebuildsOf(db, name)).find(({ problem }) => problem?.startsWith(mark));
  const underWay = before ? undefined : await endable(db, name);
  if (underWay) await giveUpRebuild(db, underWay.id, 'cancelled', `${mark}${context.reason}`);
  const all = await rebuildsOf(db, name);
  const ended = all.find(({ id }) => id === (before ?? underWay)?.id) ?? all[0];
  if (!ended) throw new Error(`the rebuild of ${name} is gone`);
  return { ...recorded, body: viewRebuild(ended) };
}

/** The newest first. */
async function rebuildsOf(db: Db, name: string): Promise<Rebuild[]> {
  return db
    .selectFrom('rebuilds')
    .selectAll()
    .where('projection', '=', name)
    .orderBy('id', 'desc')
    .limit(100)
    .execute();
}

/** What a cancel would end. Refused with `not_found`, `no_rebuild`. */
export async function foreseeCancel(
  db: Db,
  name: string,
): Promise<{ readonly ok: true; readonly rebuild: RebuildView } | ReturnType<typeof refuse>> {
  const rebuild = await endable(db, name);
  if (rebuild) return { ok: true, rebuild: viewRebuild(rebuild) };
  return named(name) ? refuse('no_rebuild', `No rebuild of ${name} is under way.`) : noSuch(name);
}

async function rebuildable(db: Db, name: string): Promise<Decision<never>> {
  if (!named(name)) return noSuch(name);
  const [underWay] = await ours(db, name);
  if (!underWay) return { ok: true, events: [] };
  const since = underWay.begun_at.toISOString();
  return refuse(
    'rebuild_under_way',
    `A rebuild of ${name} is under way since ${since}: millrace projections cancel ${name} ends it.`,
  );
}

const named = (name: string) => Object.values(projections).find((projection) => projection.name === name);
const isOurs = ({ projection, version }: Rebuild) => named(projection)?.version === version;
const ours = async (db: Db, name: string) => (await activeRebuilds(db, name)).filter(isOurs);
/** That of this code's version before others'. */
const endable = async (db: Db, name: string) => {
  const underWay = await activeRebuilds(db, name);
  return underWay.find(isOurs) ?? underWay[0];
};

function noSuch(name: string): ReturnType<typeof refuse> {
  const names = Object.values(projections).map((projection) => projection.name);
  return refuse('not_found', `There is no read model ${name}; there are ${names.join(', ')}.`);
}
