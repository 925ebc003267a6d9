import { createReadCache } from '../access/read-cache.ts';
import type { MemoryGuard } from '../eventstore/memory-guard.ts';
import { openReplicas, type ReplicaState } from '../eventstore/replicas.ts';
import type { FindOne } from '../http/consistency.ts';
import type { Database } from '../projections/database.ts';
import { createReading, type ReadingDeps } from '../projections/reading.ts';
import type { Readiness } from '../telemetry/management.ts';
import type { Base } from './base.ts';
import { type CachedQuery, connectCache, createCachedReads, oneBy } from './cached-reads.ts';

/** Of Redis' memory: from there on the cache takes no more, long before commands are refused for want of it. */
const CACHE_LIMIT = 0.6;

/** Queries of read models, from replicas where there are any. */
export function openReading(
  { config, logger, metrics }: Base,
  {
    db,
    waitFor,
    guard,
  }: Pick<ReadingDeps, 'db' | 'waitFor'> & { readonly guard: Pick<MemoryGuard, 'usedShare'> },
  name: string,
) {
  const urls = config.DATABASE_REPLICA_URLS;
  const replicas =
    urls.length === 0
      ? undefined
      : openReplicas<Database>({
          urls,
          primaryUrl: config.DATABASE_URL,
          max: config.DATABASE_POOL,
          applicationName: `millrace-${name}`,
          maxLagMs: config.REPLICA_LAG_MS,
          onLook({ name: replica, lagMs, problem }) {
            if (lagMs === undefined || problem !== undefined) metrics.replicaLag.remove({ replica });
            else metrics.replicaLag.set({ replica }, lagMs / 1000);
          },
          onChange(replica, problem) {
            if (problem === undefined) logger.info({ replica }, 'queries go to the replica');
            else logger.warn({ replica, problem }, 'no query goes to the replica');
          },
        });
  const connection = config.READ_CACHE_SECONDS > 0 ? connectCache(config, name) : undefined;
  const reading = createReading({
    db,
    waitFor,
    replicas,
    alsoElsewhere: connection !== undefined,
    onRead: (projection, from) => metrics.reads.inc({ projection, from }),
    onMiss: (replica, because) => metrics.replicaMisses.inc({ replica, because }),
  });

  const cached =
    connection &&
    createCachedReads({
      cache: createReadCache(
        connection.redis,
        config.KEY_PREFIX,
        config.READ_CACHE_SECONDS * 1000,
        () => guard.usedShare() < CACHE_LIMIT,
      ),
      reading,
      onLook(projection, outcome) {
        metrics.readCache.inc({ projection, outcome });
        if (outcome === 'hit') metrics.reads.inc({ projection, from: 'cache' });
      },
    });

  return {
    reading,
    /** A query for one thing, whose id says which partition its row follows. */
    one: <V>({ projection, find, keeps }: CachedQuery<V>): FindOne<V> =>
      cached && keeps ? cached({ projection, find, keeps }) : oneBy(reading, projection, find),
    /** A line for each replica. None of them is needed to serve: the primary does what they can't. */
    checks: (): Readiness['checks'] =>
      Object.fromEntries((replicas?.states() ?? []).map((state) => [`replica ${state.name}`, lineOf(state)])),
    async close() {
      connection?.close();
      await replicas?.close();
    },
  };
}

function lineOf({ fresh, lagMs, problem }: ReplicaState): { ok: boolean; detail: string } {
  if (problem !== undefined) return { ok: false, detail: problem };
  const lag = lagMs === undefined ? 'more than can be told' : `at most ${Math.ceil(lagMs)} ms`;
  return { ok: fresh, detail: `behind by ${lag}` };
}
