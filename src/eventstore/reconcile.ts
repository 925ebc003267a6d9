import type { Kysely } from 'kysely';
import { compareWithLedger } from './compare.ts';
import type { Connection } from './connections.ts';
import {
  alone,
  type Installation,
  type OpenEpoch,
  openEpoch,
  openEpochs,
  readInstallation,
  takeOver,
} from './installation.ts';
import { findLosses, lossMessage } from './losses.ts';
import { type Meta, readMetas, writeMeta } from './meta.ts';
import type { PartitionKeys } from './partitions.ts';
import { findSetBack, makeUp } from './set-back.ts';
import type { LedgerTables } from './tables.ts';
import type { Told } from './told.ts';

/**
 * After a start, or a reconnect to a server with another run id: makes sure that Redis and the ledger agree, and
 * only then lets the partitions trust the server and begin a new epoch of positions. One process at a time; the
 * others find it done.
 *
 * Who is the server is for Postgres to say, by the open epoch of each partition: one that trusts itself in an older
 * epoch was replaced, and does not know it.
 * @param told how far this process knows the log to go: the ledger may be behind
 * @returns why commits must stay stopped; undefined: they may go on
 */
export async function reconcile(
  db: Kysely<LedgerTables>,
  connection: Connection,
  prefix: string,
  keys: readonly PartitionKeys[],
  runId: string,
  told: Pick<Told, 'all'>,
): Promise<string | undefined> {
  return alone(db, async (pg) => {
    const installation = await readInstallation(pg);
    if (!installation)
      return 'The database knows of no installation any more: it was replaced by another one.';
    // Before Redis is asked: of what is told meanwhile, as commits and readers go on, it would seem to know nothing.
    const known = told.all();
    const metas = await readMetas(connection.redis, keys);
    const broken = brokenMeta(metas, installation);
    if (broken !== undefined) return broken;
    const epochs = await openEpochs(pg);
    const replaced = metas.findIndex((meta, partition) => wasReplaced(meta, epochs.get(partition), runId));
    if (replaced >= 0) return replacedMessage(replaced, runId, epochs.get(replaced)?.runId);
    // Before anything is touched: a process that was led to the wrong Redis must not stop the others.
    const problem = await compareWithLedger(pg, connection.redis, keys);
    if (problem !== undefined) return problem;
    const losses = await findLosses(pg, metas, known);
    if (losses.length > 0) return lossMessage(losses);
    const setBack = await findSetBack(pg, connection.redis, keys, metas);
    const changed = keys.filter(
      ({ partition: p }) => setBack !== undefined || !isTrusted(metas[p], epochs.get(p), runId),
    );
    if (changed.length === 0) return undefined;

    await stopCommits(connection, changed, metas, runId);
    // After that, since from then on nobody trusts it, whatever becomes of this process.
    if (setBack) await makeUp(pg, setBack);
    const partitions = changed.map(({ partition }) => partition);
    await takeOver(pg, partitions, runId);
    await deleteLeases(connection, prefix, changed);
    // Once more: until then a reader may have applied what it still held, and this server lost.
    const since = await compareWithLedger(pg, connection.redis, keys);
    if (since !== undefined) return since;
    const now = await readMetas(connection.redis, keys);
    for (const each of changed) {
      const meta = now[each.partition];
      if (meta) await adopt(pg, connection, each, meta, runId);
    }
    return undefined;
  });
}

function isTrusted(meta: Meta | undefined, open: OpenEpoch | undefined, runId: string): boolean {
  return meta?.run === runId && open?.runId === runId && open.epoch === meta.epoch;
}

function wasReplaced(meta: Meta | undefined, open: OpenEpoch | undefined, runId: string): boolean {
  return meta?.run === runId && open !== undefined && open.runId !== runId && open.epoch > meta.epoch;
}

function replacedMessage(partition: number, runId: string, by: string | undefined): string {
  return `Another Redis server (run ${by}) has taken over partition ${partition} since this one (run ${runId}) was trusted: this process speaks to one that was replaced, say in a failover. Commits stay stopped here: lead REDIS_URL to the new one.`;
}

/** Where this server is trusted already, but not as Postgres says: nothing may be appended while the epoch ends. */
async function stopCommits(
  connection: Connection,
  changed: readonly PartitionKeys[],
  metas: readonly (Meta | undefined)[],
  runId: string,
): Promise<void> {
  for (const keys of changed) {
    const meta = metas[keys.partition];
    if (meta?.run === runId) await writeMeta(connection, keys, meta, { ...meta, run: '' });
  }
}

/** What is wrong with what Redis says of itself; undefined: nothing. The run id is not looked at. */
export function brokenMeta(
  metas: readonly (Meta | undefined)[],
  { storeId, partitions }: Installation,
): string | undefined {
  for (const [partition, meta] of metas.entries()) {
    if (!meta) {
      return `Redis has no record of partition ${partition} any more: it was emptied (FLUSHALL), or lost its data. Commits stay stopped, so that nothing is lost for good: stop Redis, give it back its newest append-only file, and start it again; where there is none, \`millrace recover\` makes Redis anew from the ledger.`;
    }
    if (meta.store !== storeId || meta.partitions !== partitions) {
      return `Redis holds the log of store ${meta.store} (${meta.partitions} partitions), the database belongs to store ${storeId} (${partitions}): one of the two was replaced. Commits stay stopped.`;
    }
  }
  return undefined;
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
