import type { Redis } from 'ioredis';
import { type Kysely, sql } from 'kysely';
import { openEpochs, passTokens } from './installation.ts';
import type { Meta } from './meta.ts';
import type { PartitionKeys } from './partitions.ts';
import type { LedgerTables } from './tables.ts';

/** Field of a partition's meta with the highest token that a group ever had there. Stored: a name for life. */
export const tokenField = (group: string) => `token:${group}`;

type Epoch = {
  readonly partition: number;
  readonly epoch: number;
  readonly firstSeq: number;
  /** Null: it goes on. */
  readonly lastSeq: number | null;
};

/** What Redis knows of that Postgres forgot. */
export type SetBack = {
  /** The highest token that was ever given out. */
  readonly token: number;
  /** The number of the last recovery. */
  readonly recovery: number;
  /** Epochs that Postgres does not know, or thinks go on, and where each began and ended in the log. */
  readonly epochs: readonly Epoch[];
};

/**
 * Whether Postgres was set back, by a restore or a failover that lost its last transactions, while Redis went on:
 * tokens, epochs and recoveries are written down there before Redis hears of them, so Redis never knows more.
 * Undefined: it was not, or to a time since which none of these has changed, so that nobody could take them for others.
 */
export async function findSetBack(
  db: Kysely<LedgerTables>,
  redis: Redis,
  keys: readonly PartitionKeys[],
  metas: readonly (Meta | undefined)[],
): Promise<SetBack | undefined> {
  const { rows } = await sql<{ token: number; recovery: number }>`
    SELECT last_value - 1 + is_called::int AS token, (SELECT recovery FROM installation) AS recovery FROM fencing_tokens`.execute(
    db,
  );
  const [known] = rows;
  if (!known) throw new Error('the sequence of fencing tokens is gone');
  const token = Math.max(0, ...(await Promise.all(keys.map((each) => highestToken(redis, each)))));
  const recovery = Math.max(0, ...metas.map((meta) => meta?.recovery ?? 0));
  const epochs = await forgottenEpochs(db, redis, keys, metas);
  if (token <= known.token && recovery <= known.recovery && epochs.length === 0) return undefined;
  return { token, recovery, epochs };
}

/**
 * Brings Postgres to where it can go on from: tokens that were given out are not given out again, numbers of recoveries
 * that states bear are not used again, and positions of the epochs that it forgot are known to be there. May be cut off
 * anywhere and be done again.
 */
export async function makeUp(db: Kysely<LedgerTables>, { token, recovery, epochs }: SetBack): Promise<void> {
  await passTokens(db, token);
  await db.transaction().execute(async (trx) => {
    await sql`UPDATE installation SET recovery = greatest(recovery, ${recovery}::int)`.execute(trx);
    for (const { partition, epoch, firstSeq, lastSeq } of epochs) {
      await sql`
        INSERT INTO epochs (partition, epoch, first_seq, last_seq, run_id)
        VALUES (${partition}, ${epoch}, ${firstSeq}, ${lastSeq}, 'forgotten by Postgres')
        ON CONFLICT (partition, epoch) DO UPDATE SET last_seq = excluded.last_seq`.execute(trx);
    }
  });
}

async function highestToken(redis: Redis, keys: PartitionKeys): Promise<number> {
  const fields = Object.entries(await redis.hgetall(keys.meta));
  return Math.max(
    0,
    ...fields.flatMap(([name, value]) => (name.startsWith(tokenField('')) ? Number(value) : [])),
  );
}

/** Entries of the log bear their epochs: what is missing in Postgres can be read there, as far as the log goes back. */
async function forgottenEpochs(
  db: Kysely<LedgerTables>,
  redis: Redis,
  keys: readonly PartitionKeys[],
  metas: readonly (Meta | undefined)[],
): Promise<Epoch[]> {
  const open = await openEpochs(db);
  const found: Epoch[] = [];
  for (const { partition, log } of keys) {
    const meta = metas[partition];
    const last = open.get(partition);
    if (!meta || !last || last.epoch >= meta.epoch) continue;
    let firstSeq = last.firstSeq;
    for (let { epoch } = last; epoch <= meta.epoch; epoch++) {
      const [next] = await redis.xrange(log, `${epoch + 1}-0`, '+', 'COUNT', 1);
      const lastSeq = next ? Number(next[0].split('-')[1]) - 1 : meta.seq;
      found.push({ partition, epoch, firstSeq, lastSeq: epoch === meta.epoch ? null : lastSeq });
      firstSeq = lastSeq + 1;
    }
  }
  return found;
}
