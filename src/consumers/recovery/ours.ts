import type { Kysely } from 'kysely';
import type { Connection } from '../../eventstore/connections.ts';
import { type Installation, readInstallation } from '../../eventstore/installation.ts';
import { type Meta, readMetas } from '../../eventstore/meta.ts';
import type { PartitionKeys } from '../../eventstore/partitions.ts';
import type { LedgerTables } from '../../eventstore/tables.ts';

/** The installation. Throws where there is none, or `keys` are of another number of partitions. */
export async function known(db: Kysely<LedgerTables>, keys: readonly PartitionKeys[]): Promise<Installation> {
  const installation = await readInstallation(db);
  if (!installation)
    throw new Error('The database knows of no installation: there is nothing to recover from.');
  if (installation.partitions !== keys.length) {
    throw new Error(
      `This installation has ${installation.partitions} partitions, and PARTITIONS says ${keys.length}.`,
    );
  }
  return installation;
}

/**
 * The meta of every partition. Throws where Redis holds another installation's log, which may be all that there is of it, and is
 * not for this one to take away; and where it holds this one's under another prefix.
 */
export async function ours(
  { redis }: Connection,
  keys: readonly PartitionKeys[],
  { storeId }: Installation,
): Promise<readonly (Meta | undefined)[]> {
  const metas = await readMetas(redis, keys);
  if (metas.every((meta) => meta === undefined)) await assertNowhereElse(redis, keys, storeId);
  const other = metas.find((meta) => meta !== undefined && meta.store !== storeId);
  if (!other) return metas;
  throw new Error(
    `Redis holds the log of store ${other.store}, the database belongs to store ${storeId}: one of the two is another installation's. Correct REDIS_URL, DATABASE_URL or KEY_PREFIX. Only where nobody needs that log any more, remove its keys from Redis, and recover then.`,
  );
}

/** Nothing where it is looked for, and all of it somewhere else: that is not lost. */
async function assertNowhereElse(
  redis: Connection['redis'],
  keys: readonly PartitionKeys[],
  storeId: string,
): Promise<void> {
  const [first] = keys;
  for await (const found of redis.scanStream({ match: `*:{${first?.tag}}:meta`, count: 1_000 })) {
    for (const key of Array.isArray(found) ? found.map(String) : []) {
      if ((await redis.hget(key, 'store')) !== storeId) continue;
      throw new Error(
        `Redis holds the log of this installation under another prefix (${key}): correct KEY_PREFIX.`,
      );
    }
  }
}
