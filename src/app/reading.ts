import type { Kysely } from 'kysely';
import { parseStreamId, partitionOf } from '../domain/ids.ts';
import { openReplicas, type ReplicaState } from '../eventstore/replicas.ts';
import type { FindOne } from '../http/consistency.ts';
import type { Database } from '../projections/database.ts';
import { createReading, type ReadingDeps, type ReadModelQuery } from '../projections/reading.ts';
import type { Readiness } from '../telemetry/management.ts';
import type { Base } from './base.ts';

/** Queries of read models, from replicas where there are any. */
export function openReading(
  { config, logger, metrics }: Base,
  { db, waitFor }: Pick<ReadingDeps, 'db' | 'waitFor'>,
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
  const reading = createReading({
    db,
    waitFor,
    replicas,
    onRead: (projection, from) => metrics.reads.inc({ projection, from }),
    onMiss: (replica, because) => metrics.replicaMisses.inc({ replica, because }),
  });

  return {
    reading,
    /** A query for one thing, whose id says which partition its row follows. */
    one:
      <V>(
        projection: ReadModelQuery['projection'],
        find: (db: Kysely<Database>, id: string, owner?: string) => Promise<V | undefined>,
      ): FindOne<V> =>
      (id, owner, wanted) => {
        const stream = parseStreamId(id);
        const partitions = stream ? [partitionOf(stream)] : [];
        return reading({ projection, partitions }, wanted, (from) => find(from, id, owner));
      },
    /** A line for each replica. None of them is needed to serve: the primary does what they can't. */
    checks: (): Readiness['checks'] =>
      Object.fromEntries((replicas?.states() ?? []).map((state) => [`replica ${state.name}`, lineOf(state)])),
    close: async () => replicas?.close(),
  };
}

function lineOf({ fresh, lagMs, problem }: ReplicaState): { ok: boolean; detail: string } {
  if (problem !== undefined) return { ok: false, detail: problem };
  const lag = lagMs === undefined ? 'more than can be told' : `at most ${Math.ceil(lagMs)} ms`;
  return { ok: fresh, detail: `behind by ${lag}` };
}
