import type { Config } from '../config.ts';
import { pause } from '../consumers/backoff.ts';
import { codec } from '../domain/events.ts';
import { openDatabase } from '../eventstore/postgres.ts';
import type { OrderedGroup } from '../eventstore/types.ts';
import { projections } from '../features.ts';
import type { RebuildPhase } from '../projections/generations.ts';
import { groupOf as liveGroup } from '../projections/projection.ts';
import { type DriveDeps, driveRebuilds, markCaughtUp } from '../projections/rebuild/drive.ts';
import { createRebuildGroup } from '../projections/rebuild/group.ts';
import { activeRebuilds, type Rebuild } from '../projections/rebuild/rebuilds.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Db, Parts } from './base.ts';
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

export function createRebuilding(
  { config, logger }: { readonly config: Pick<Config, 'DATABASE_URL'>; readonly logger: Logger },
  { db, store }: { readonly db: Db; readonly store: Pick<Parts['store'], 'heads' | 'archives'> },
  /** Told of a group whose rows are others from now on than its events have made since. */
  onOtherRows: (group: string) => void = () => {},
): Rebuilding {
  const slow: Db = openDatabase({
    ...{ url: config.DATABASE_URL, max: 2, applicationName: 'millrace-rebuild', statementTimeoutMs: 0 },
    onError: (err) => logger.warn({ err }, 'a connection to Postgres broke'),
  });
  const turn = inTurns(FILLED_AT_ONCE);
  const { pace, onLag } = createPace();
  const groups = new Map<number, OrderedGroup>();
  const phases = new Map<number, RebuildPhase>();
  const seen = new Map<string, readonly number[]>();
  let running: Promise<void>[] = [];
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

  const deps: DriveDeps = {
    ...{ db, slow, projections: Object.values(projections), heads: () => store.heads() },
    signal: stopped.signal,
    onSwapped(projection, { generation }) {
      onOtherRows(liveGroup(projection));
      logger.info({ projection: projection.name, generation }, 'a rebuilt read model is live');
    },
  };

  async function look(onChange: () => void): Promise<void> {
    const active = await activeRebuilds(db);
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
    await markCaughtUp(deps, seen);
  }

  /** Once a second, from now on, until it is stopped. Resolves then. */
  async function again(what: () => Promise<unknown>, failed: string): Promise<void> {
    while (!stopped.signal.aborted) {
      await what().catch((err: unknown) => {
        if (!stopped.signal.aborted) logger.warn({ err }, failed);
      });
      await pause(LOOK_MS, stopped.signal);
    }
  }

  return {
    groups: () => [...groups.values()],
    onLag,
    start(onChange) {
      // Side by side: making indexes may take hours.
      running = [
        again(() => look(onChange), 'rebuilds could not be looked at'),
        again(() => driveRebuilds(deps), 'a rebuild could not go on'),
      ];
    },
    async stop() {
      stopped.abort();
      await Promise.all(running);
      await slow.destroy();
    },
  };
}
