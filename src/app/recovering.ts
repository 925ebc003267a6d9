import { forgetAllReads } from '../access/read-cache.ts';
import type { Config } from '../config.ts';
import type { RecoverDeps } from '../consumers/recovery/recover.ts';
import { connectWriter } from '../eventstore/connections.ts';
import { createKeys } from '../eventstore/partitions.ts';
import { openDatabase, openPool } from '../eventstore/postgres.ts';
import { checkServer } from '../eventstore/server-check.ts';
import { groupOf } from '../projections/projection.ts';
import { giveUpRebuildOf } from '../projections/rebuild/rebuilds.ts';
import { rewind } from '../projections/rewind.ts';
import { openArchives } from './archives.ts';
import type { Db } from './base.ts';
import { REACTORS } from './groups.ts';
import { forEachReadModel } from './read-models.ts';

/** What a recovery is made of: connections of its own, as the event store opens on nothing that it can't trust. */
export async function openRecovery(config: Config): Promise<RecoverDeps & { close(): Promise<void> }> {
  const { DATABASE_URL: url, KEY_PREFIX: prefix } = config;
  const db: Db = openDatabase({
    ...{ url, max: 4, applicationName: 'millrace-recover' },
    ...{ statementTimeoutMs: 0, idleInTransactionTimeoutMs: 600_000 },
  });
  const pool = openPool({ url, max: 1, applicationName: 'millrace-recover' });
  const connection = connectWriter({ url: config.REDIS_URL, name: 'recover', replyWithinMs: 30_000 });
  const close = async () => {
    connection.close();
    await Promise.all([pool.end(), db.destroy()]);
  };
  try {
    await connection.whenReady(10_000);
    const { problems } = await checkServer(connection.redis);
    if (problems.length > 0) throw new Error(problems.join('; '));
  } catch (error) {
    await close();
    throw error;
  }
  const rewinds = new Map(
    Object.values(
      forEachReadModel((projection) => ({
        group: groupOf(projection),
        rewind: (partition: number) => rewind(db, projection, partition),
      })),
    ).map((each) => [each.group, each.rewind]),
  );
  return {
    ...{ db, pool, connection, prefix, close },
    archives: openArchives(config),
    keys: createKeys(prefix, config.PARTITIONS),
    retentionMs: config.IDEMPOTENCY_RETENTION * 1_000,
    reactors: [...REACTORS],
    forgetReads: () => forgetAllReads(connection.redis, prefix, ''),
    async rewind(group, partition) {
      if (await giveUpRebuildOf(db, group, 'Redis was made anew from less than it had read')) return;
      const known = rewinds.get(group);
      if (!known)
        throw new Error(
          `${group} has read what is lost, and is none of this version's: run the version that has it.`,
        );
      await known(partition);
    },
  };
}
