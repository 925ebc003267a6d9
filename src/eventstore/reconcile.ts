import { type Kysely, sql } from 'kysely';
import { compareWithLedger } from './compare.ts';
import type { Connection } from './connections.ts';
import { alone, type Installation, openEpoch, readInstallation } from './installation.ts';
import { type Meta, readMetas, writeMeta } from './meta.ts';
import type { PartitionKeys } from './partitions.ts';
import type { LedgerTables } from './tables.ts';

/**
 * After a start, or a reconnect to a server with another run id: makes sure that Redis and the ledger agree, and
 * only then lets the partitions trust the server and begin a new epoch of positions. One process at a time; the
 * others find it done.
 * @returns why commits must stay stopped; undefined: they may go on
 */
export async function reconcile(
  db: Kysely<LedgerTables>,
  connection: Connection,
  prefix: string,
  keys: readonly PartitionKeys[],
  runId: string,
): Promise<string | undefined> {
  return alone(db, async (pg) => {
    const installation = await readInstallation(pg);
    if (!installation)
      return 'The database knows of no installation any more: it was replaced by another one.';
    const metas = await readMetas(connection.redis, keys);
    const broken = brokenMeta(metas, installation);
    if (broken !== undefined) return broken;
    const changed = keys.filter(({ partition }) => metas[partition]?.run !== runId);
    if (changed.length > 0) {
      // A reader may still hold events that the restart lost: it must fail before the comparison, not after.
      await raiseTokens(pg, changed);
      await deleteLeases(connection, prefix, changed);
    }
    const problem = await compareWithLedger(pg, connection.redis, keys);
    if (problem !== undefined) return problem;
    for (const each of changed) {
      const meta = metas[each.partition];
      if (meta) await adopt(pg, connection, each, meta, runId);
    }
    return undefined;
  });
}

/** What is wrong with what Redis says of itself; undefined: nothing. The run id is not looked at. */
export function brokenMeta(
  metas: readonly (Meta | undefined)[],
  { storeId, partitions }: Installation,
): string | undefined {
  for (const [partition, meta] of metas.entries()) {
    if (!meta) {
      return `Redis has no record of partition ${partition} any more: it was emptied (FLUSHALL), or lost its data. Commits stay stopped, so that nothing is lost for good: stop Redis, give it back its newest append-only file, and start it again.`;
    }
    if (meta.store !== storeId || meta.partitions !== partitions) {
      return `Redis holds the log of store ${meta.store} (${meta.partitions} partitions), the database belongs to store ${storeId} (${partitions}): one of the two was replaced. Commits stay stopped.`;
    }
  }
  return undefined;
}

async function raiseTokens(db: Kysely<LedgerTables>, changed: readonly PartitionKeys[]): Promise<void> {
  await db
    .updateTable('checkpoints')
    .set({ token: sql`nextval('fencing_tokens')` })
    .where(
      'partition',
      'in',
      changed.map(({ partition }) => partition),
    )
    .execute();
}

/** By scan: no list of groups could be out of date, and a restart is rare. */
async function deleteLeases(
  { redis }: Connection,
  prefix: string,
  changed: readonly PartitionKeys[],
): Promise<void> {
  const bases = changed.map((keys) => keys.lease(''));
  for await (const found of redis.scanStream({ match: `${prefix}:{*}:lease:*`, count: 1_000 })) {
    if (!Array.isArray(found)) continue;
    const leases = found.map(String).filter((key) => bases.some((base) => key.startsWith(base)));
    // One by one: in a cluster they lie in different slots.
    await Promise.all(leases.map((key) => redis.unlink(key)));
  }
}

async function adopt(
  db: Kysely<LedgerTables>,
  connection: Connection,
  keys: PartitionKeys,
  meta: Meta,
  runId: string,
): Promise<void> {
  const { partition } = keys;
  const epoch = await db
    .transaction()
    .execute((trx) => openEpoch(trx, partition, { after: meta.epoch, lastSeq: meta.seq, runId }));
  const { store, partitions } = meta;
  const written = await writeMeta(connection, keys, meta, { store, partitions, epoch, run: runId });
  if (!written)
    throw new Error(`partition ${partition} was changed while it was reconciled; it is tried again`);
}
