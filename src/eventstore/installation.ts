import { randomBytes } from 'node:crypto';
import { type Kysely, sql, type Transaction } from 'kysely';
import type { Connection } from './connections.ts';
import { type Meta, readMetas, writeMeta } from './meta.ts';
import type { PartitionKeys } from './partitions.ts';
import type { LedgerTables } from './tables.ts';

/** Which log belongs to which database. */
export type Installation = { readonly storeId: string; readonly partitions: number };

/** Any number that nothing else in the database locks. */
const RECONCILE_LOCK = 7_305_641_803;

/**
 * Runs `body` on one connection, alone among all processes of the installation. The lock is that connection's, and ends with it.
 * Throws where another holds it for longer than the connection waits for locks.
 */
export async function alone<T>(
  db: Kysely<LedgerTables>,
  body: (connection: Kysely<LedgerTables>) => Promise<T>,
): Promise<T> {
  return db.connection().execute(async (connection) => {
    await sql`SELECT pg_advisory_lock(${sql.lit(RECONCILE_LOCK)}::bigint)`.execute(connection).catch(asBusy);
    try {
      return await body(connection);
    } finally {
      await sql`SELECT pg_advisory_unlock(${sql.lit(RECONCILE_LOCK)}::bigint)`.execute(connection);
    }
  });
}

function asBusy(error: unknown): never {
  if (!(error instanceof Error && 'code' in error && error.code === '55P03')) throw error;
  throw new Error(
    'another process compares or recovers this installation just now; try again when it is done',
    {
      cause: error,
    },
  );
}

export async function readInstallation(db: Kysely<LedgerTables>): Promise<Installation | undefined> {
  const row = await db.selectFrom('installation').select(['store_id', 'partitions']).executeTakeFirst();
  return row && { storeId: row.store_id, partitions: row.partitions };
}

/**
 * Finds the installation, or begins it: a first start is a recovery from an empty ledger. An installation whose
 * ledger and Redis are both empty begins again, under a new store id.
 *
 * Throws when `keys` are of another number of partitions than the installation's, and when Redis holds a log
 * that this database knows nothing of. A Redis that has lost its log is left to the fence.
 */
export async function ensureInstallation(
  db: Kysely<LedgerTables>,
  connection: Connection,
  keys: readonly PartitionKeys[],
  runId: string,
): Promise<Installation> {
  const partitions = keys.length;
  return alone(db, async (pg) => {
    const known = await readInstallation(pg);
    if (known && known.partitions !== partitions) {
      throw new Error(
        `this installation has ${known.partitions} partitions, and PARTITIONS says ${partitions}: the number is fixed when the installation begins`,
      );
    }
    const metas = await readMetas(connection.redis, keys);
    const present = metas.filter((meta) => meta !== undefined);
    if (!known && present.length > 0) {
      throw new Error(
        `Redis holds the log of store ${present[0]?.store} under this KEY_PREFIX, and the database knows of none: give it the database that belongs to it, or use another KEY_PREFIX`,
      );
    }
    const begins = known
      ? present.length < partitions && present.every((meta) => isUnused(meta, known)) && (await isEmpty(pg))
      : true;
    if (known && !begins) return known;

    // What a start that was interrupted has begun is completed, not begun again.
    const storeId = known && present.length > 0 ? known.storeId : randomBytes(12).toString('base64url');
    const missing = keys.filter((_, partition) => metas[partition] === undefined);
    const epochs = await pg
      .transaction()
      .execute((trx) => beginEpochs(trx, storeId, missing, partitions, runId));
    for (const each of missing) {
      const epoch = epochs.get(each.partition) ?? 1;
      const written = await writeMeta(connection, each, undefined, {
        store: storeId,
        partitions,
        epoch,
        run: runId,
      });
      if (!written) throw new Error('Redis was changed by others while the installation began; start again');
    }
    return { storeId, partitions };
  });
}

export type OpenEpoch = { readonly epoch: number; readonly firstSeq: number; readonly runId: string };

/** The epoch that each partition is in, and the server that it began with. */
export async function openEpochs(db: Kysely<LedgerTables>): Promise<Map<number, OpenEpoch>> {
  const rows = await db
    .selectFrom('epochs')
    .select(['partition', 'epoch', 'first_seq', 'run_id'])
    .where('last_seq', 'is', null)
    .execute();
  return new Map(
    rows.map(({ partition, epoch, first_seq, run_id }) => [
      partition,
      { epoch, firstSeq: first_seq, runId: run_id },
    ]),
  );
}

/**
 * Takes values of the sequence `fencing_tokens`, for who acts through one server: a counter in Redis could go back
 * in a failover. Throws while the open epochs are another server's: what is read from this one may be history that
 * the ledger will never have. The lock makes sure that `takeOver` draws higher tokens than any that it lets pass.
 * @param above the highest token that Redis has seen: where Postgres was set back to before it was given out, the sequence
 *   comes after it first
 */
export async function mintTokens(
  db: Kysely<LedgerTables>,
  count: number,
  runId: string,
  above: number,
): Promise<number[]> {
  await passTokens(db, above);
  const { rows } = await sql<{ token: number }>`
    WITH servers AS MATERIALIZED (SELECT run_id FROM epochs WHERE last_seq IS NULL FOR SHARE)
    SELECT nextval('fencing_tokens') AS token FROM generate_series(1, ${count}::int)
    WHERE NOT EXISTS (SELECT FROM servers WHERE run_id <> ${runId})`.execute(db);
  if (rows.length < count) throw new Error('Redis is not the server that the ledger trusts, or not yet');
  return rows.map(({ token }) => token);
}

/**
 * Makes the sequence of tokens give out none up to this one. By drawing them: setting it could take it back behind what
 * others draw in the same moment. Undone by nothing, also not by a rollback.
 */
export async function passTokens(db: Kysely<LedgerTables>, upTo: number): Promise<void> {
  if (upTo === 0) return;
  await sql`
    SELECT count(nextval('fencing_tokens'))
    FROM generate_series((SELECT last_value + is_called::int FROM fencing_tokens), ${upTo}::bigint)`.execute(
    db,
  );
}

/**
 * Makes the open epochs of these partitions the server's own, and fences whoever reads from another one: first no
 * more tokens for those, then tokens above all that they have.
 */
export async function takeOver(
  db: Kysely<LedgerTables>,
  partitions: readonly number[],
  runId: string,
): Promise<void> {
  await db
    .updateTable('epochs')
    .set({ run_id: runId })
    .where('partition', 'in', partitions)
    .where('last_seq', 'is', null)
    .execute();
  await db
    .updateTable('checkpoints')
    .set({ token: sql`nextval('fencing_tokens')` })
    .where('partition', 'in', partitions)
    .execute();
}

function isUnused(meta: Meta, { storeId }: Installation): boolean {
  return meta.store === storeId && meta.seq === 0;
}

async function isEmpty(db: Kysely<LedgerTables>): Promise<boolean> {
  const { rows } = await sql<{ used: boolean }>`
    SELECT EXISTS (SELECT FROM ledger) OR EXISTS (SELECT FROM checkpoints WHERE seq > 0) AS used`.execute(db);
  return rows[0]?.used === false;
}

async function beginEpochs(
  trx: Transaction<LedgerTables>,
  storeId: string,
  missing: readonly PartitionKeys[],
  partitions: number,
  runId: string,
): Promise<Map<number, number>> {
  await sql`INSERT INTO installation (store_id, partitions) VALUES (${storeId}, ${partitions})
    ON CONFLICT ("only") DO UPDATE SET store_id = excluded.store_id`.execute(trx);
  const epochs = new Map<number, number>();
  for (const { partition } of missing) {
    epochs.set(partition, await openEpoch(trx, partition, { after: 0, lastSeq: 0, runId }));
  }
  return epochs;
}

/**
 * Closes a partition's epochs at `lastSeq` and opens the next: positions above it, of epochs that are closed, are
 * lost. Called before Redis learns of the new epoch, so that no position exists whose epoch is unknown here.
 *
 * A Redis that was given back what it had may be in an epoch that ended here already: that one goes further then, and
 * those that began since, on less, have nothing.
 * @param after the epoch that Redis has, if any: the new one is higher
 * @returns the new epoch
 */
export async function openEpoch(
  trx: Transaction<LedgerTables>,
  partition: number,
  { after, lastSeq, runId }: { after: number; lastSeq: number; runId: string },
): Promise<number> {
  await trx
    .updateTable('epochs')
    .set(({ ref }) => ({ last_seq: sql`${ref('first_seq')} - 1` }))
    .where('partition', '=', partition)
    .where('epoch', '>', after)
    .execute();
  await trx
    .updateTable('epochs')
    .set({ last_seq: lastSeq })
    .where('partition', '=', partition)
    .where(({ eb, or }) => or([eb('last_seq', 'is', null), eb('epoch', '=', after)]))
    .execute();
  const newest = await trx
    .selectFrom('epochs')
    .select((eb) => eb.fn.max('epoch').as('epoch'))
    .where('partition', '=', partition)
    .executeTakeFirst();
  const epoch = Math.max(after, newest?.epoch ?? 0) + 1;
  await trx
    .insertInto('epochs')
    .values({ partition, epoch, first_seq: lastSeq + 1, run_id: runId })
    .execute();
  return epoch;
}
