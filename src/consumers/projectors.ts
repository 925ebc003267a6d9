import { LEDGER_GROUP } from '../eventstore/checkpoints.ts';
import { readLedger } from '../eventstore/ledger-read.ts';
import type { OrderedGroup } from '../eventstore/types.ts';
import { measureLag } from './lag.ts';
import { openPartitionLog, TAIL_BLOCK_MS } from './partition-log.ts';
import { type PausedGroups, watchPausedGroups } from './paused-groups.ts';
import { tellReadUpTo } from './read-up-to.ts';
import { orderedReader, type Standing } from './reader.ts';
import { type RoleDeps, type RunningRole, startRole } from './role.ts';
import { watchSetBack } from './set-back-watch.ts';
import { shareByPartition } from './shared.ts';
import { startTrimmer } from './trimmer.ts';

export type ProjectorDeps = RoleDeps & {
  /** The ledger, every projection, and reactors. */
  readonly groups: readonly OrderedGroup[];
  /** Those that come and go: of rebuilds. */
  readonly passing?: () => readonly OrderedGroup[];
  /** Told every other second how far `groups` are behind, at most, of those that run here. */
  readonly onLag?: (seconds: number) => void;
  readonly trim: {
    readonly windowEvents: number;
    readonly retentionMs: number;
    readonly sessionLifetimeMs?: number;
    readonly everyMs: number;
  };
};

/** Runs the ordered groups: the ledger and the projections; trims what the ledger holds. */
export async function startProjectors(deps: ProjectorDeps): Promise<RunningRole> {
  const { store, connections, metrics, logger, db } = deps;
  const standings = new Set<Standing>();
  const logOf = shareByPartition((partition) => {
    const keys = store.keys[partition];
    if (!keys) throw new Error(`there is no partition ${partition}`);
    return openPartitionLog({
      keys,
      blocking: connections.blocking(`tail-${partition}`, TAIL_BLOCK_MS),
      reader: store.reader,
      told: store.told,
      epoch: () => store.fence.trusted(partition)?.epoch,
      readLedger: (_, after, limit) => readLedger(db, { partition, after, limit }, store.archives),
    });
  });
  let paused: PausedGroups | undefined;
  const lasting = new Set(deps.groups.map(({ name }) => name));
  const role = await startRole(deps, 'projectors', (hints) => {
    const groups = [...lasting].filter((name) => name !== LEDGER_GROUP);
    const pauses = watchPausedGroups({ db, hints, groups, metrics, logger });
    paused = pauses;
    const reading = { logOf, server: store.writer.runId, standings, paused: pauses, hints, logger, metrics };
    const readers = deps.groups.map((group) => orderedReader(reading, group));
    return () => [...readers, ...(deps.passing?.() ?? []).map((group) => orderedReader(reading, group))];
  });
  const onLag = deps.onLag && { groups: lasting, tell: deps.onLag };
  const onStandings = (all: readonly Standing[]) => tellReadUpTo(store.writer.redis, deps.prefix, all);
  const lag = measureLag({ store, standings, metrics, logger, onLag, onStandings });
  const setBack = watchSetBack({ db, groups: lasting, standings, logger });
  const trimmer = startTrimmer({
    ...deps.trim,
    db,
    store,
    logger,
    partitions: () =>
      role
        .held()
        .filter(({ group }) => group === LEDGER_GROUP)
        .map(({ partition }) => partition),
  });
  return {
    ...role,
    async stop() {
      lag.stop();
      setBack.stop();
      await trimmer.stop();
      await role.stop();
      paused?.close();
    },
  };
}
