import { codec } from '../domain/events.ts';
import { openDatabase } from '../eventstore/postgres.ts';
import type { OrderedGroup } from '../eventstore/types.ts';
import { projections } from '../features.ts';
import type { RebuildPhase } from '../projections/generations.ts';
import { driveRebuilds, markCaughtUp } from '../projections/rebuild/drive.ts';
import { createRebuildGroup } from '../projections/rebuild/group.ts';
import type { Rebuild } from '../projections/rebuild/rebuilds.ts';
import type { Base, Db, Parts } from './base.ts';
import { createPace, inTurns } from './pace.ts';
import { forEachReadModel } from './read-models.ts';

const LOOK_MS = 1_000;
/** Partitions that are filled at once: each keeps rows at hand. */
const FILLED_AT_ONCE = 2;

/** Rebuilds of read models, in a process of projectors. */
export type Rebuilding = {
  /** Groups of rebuilds that are under way. */
  readonly groups: () => readonly OrderedGroup[];
  /** How far the live groups of this process are behind, in seconds: rebuilds make room. */
  readonly onLag: (seconds: number) => void;
  /** Looks for rebuilds from now on. @param onChange called when `groups` gives others than before */
  start(onChange: () => void): void;
  stop(): Promise<void>;
};

export function createRebuilding(base: Base, { db, store }: Pick<Parts, 'db' | 'store'>): Rebuilding {
  const { config, logger } = base;
  const slow: Db = openDatabase({
    ...{ url: config.DATABASE_URL, max: 2, applicationName: 'millrace-rebuild', statementTimeoutMs: 0 },
    onError: (err) => logger.warn({ err }, 'a connection to Postgres broke'),
  });
  const turn = inTurns(FILLED_AT_ONCE);
  const { pace, onLag } = createPace();
  const groups = new Map<number, OrderedGroup>();
  const phases = new Map<number, RebuildPhase>();
  const seen = new Map<string, readonly number[]>();
  let timer: NodeJS.Timeout | undefined;
  let looking: Promise<void> | undefined;
  const stopped = new AbortController();

  const groupOf = (rebuild: Rebuild): OrderedGroup | undefined => {
    const phase = () => phases.get(rebuild.id);
    // At once, and not when somebody looks: a lease that is taken again and again would be for nothing.
    const onOver = () => void groups.delete(rebuild.id);
    const deps = { db, codec, rebuild, phase, onOver, turn, pace, archives: store.archives };
    const made = forEachReadModel((projection) =>
      projection.name === rebuild.projection && projection.version === rebuild.version
        ? createRebuildGroup({ ...deps, projection })
        : undefined,
    );
    return Object.values(made).find(Boolean);
  };

  async function look(onChange: () => void): Promise<void> {
    const known = Object.values(projections);
    const deps = {
      ...{ db, slow, projections: known, heads: () => store.heads(), signal: stopped.signal },
      onSwapped: ({ name }: { readonly name: string }, { generation }: Rebuild) =>
        logger.info({ projection: name, generation }, 'a rebuilt read model is live'),
    };
    const active = await driveRebuilds(deps);
    await markCaughtUp(deps, seen);
    phases.clear();
    for (const { id, phase } of active) phases.set(id, phase);
    let changed = false;
    for (const id of groups.keys()) if (!phases.has(id)) changed = groups.delete(id) || changed;
    for (const rebuild of active) {
      if (groups.has(rebuild.id)) continue;
      const group = groupOf(rebuild);
      if (!group) continue;
      groups.set(rebuild.id, group);
      changed = true;
    }
    if (changed) onChange();
  }

  return {
    groups: () => [...groups.values()],
    onLag,
    start(onChange) {
      const tick = () => {
        looking = look(onChange)
          .catch((err: unknown) => {
            if (!stopped.signal.aborted) logger.warn({ err }, 'rebuilds could not be looked at');
          })
          .finally(() => {
            if (!stopped.signal.aborted) timer = setTimeout(tick, LOOK_MS);
          });
      };
      tick();
    },
    async stop() {
      stopped.abort();
      clearTimeout(timer);
      await looking;
      await slow.destroy();
    },
  };
}
