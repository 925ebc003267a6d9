import { type Kysely, sql } from 'kysely';
import type { Pool } from 'pg';
import type { Archives } from '../../eventstore/archive/archives.ts';
import { LEDGER_GROUP } from '../../eventstore/checkpoints.ts';
import { compareWithLedger } from '../../eventstore/compare.ts';
import type { Connection } from '../../eventstore/connections.ts';
import { alone, type Installation, openEpoch, takeOver } from '../../eventstore/installation.ts';
import type { Meta } from '../../eventstore/meta.ts';
import type { PartitionKeys } from '../../eventstore/partitions.ts';
import { brokenMeta } from '../../eventstore/reconcile.ts';
import { findSetBack, makeUp } from '../../eventstore/set-back.ts';
import type { LedgerTables } from '../../eventstore/tables.ts';
import { createLedger } from '../ledger.ts';
import { known, ours } from './ours.ts';
import { type Restored, restorePartition } from './restore.ts';
import { putAside, type Salvage, salvage, takeOverInto } from './salvage.ts';

export type RecoverDeps = {
  readonly db: Kysely<LedgerTables>;
  readonly archives?: Archives | undefined;
  readonly pool: Pool;
  /** To the server that is to hold the log from now on. */
  readonly connection: Connection;
  readonly prefix: string;
  readonly keys: readonly PartitionKeys[];
  readonly retentionMs: number;
  /** Whose cursors are to be found again. */
  readonly reactors: readonly string[];
  /** Takes back what a projection has read beyond what there is: its rows of the partition are made anew. */
  readonly rewind: (group: string, partition: number) => Promise<void>;
  /** Takes away what was kept of answers, as these may show what is lost. */
  readonly forgetReads: () => Promise<void>;
  readonly say?: (line: string) => void;
};

export type Recovered = Salvage & Restored;

/** What is wrong, and what the log still holds; changes nothing. Undefined: nothing is wrong. */
export async function foresee(
  deps: Pick<RecoverDeps, 'db' | 'archives' | 'connection' | 'keys'>,
): Promise<{ readonly problem: string; readonly partitions: readonly Salvage[] } | undefined> {
  const { db, connection, keys } = deps;
  const installation = await known(db, keys);
  const metas = await ours(connection, keys, installation);
  const problem = await problemOf(deps, metas, installation);
  if (problem === undefined) return undefined;
  const partitions = [];
  for (const each of keys) partitions.push(await salvage(deps, connection.redis, each, async () => {}));
  return { problem, partitions };
}

/**
 * Makes Redis anew from the ledger, when it has lost its log, or holds less than the ledger or another history. What its log
 * still holds and the ledger lacks is taken over first, as far as it goes on without a gap; what can't be placed is put
 * aside. Once it is over every process goes on by itself, in a new epoch of positions.
 *
 * Nobody trusts Redis meanwhile. A run that was cut off is done once more from the beginning.
 *
 * Throws, with nothing done, where Redis holds the log of another installation, or `keys` are of another number of partitions.
 * @returns undefined: there is nothing to recover
 */
export async function recover(
  deps: RecoverDeps,
  asked: { readonly by: string; readonly reason: string },
): Promise<readonly Recovered[] | undefined> {
  const { db, connection, keys, say = () => {} } = deps;
  return alone(db, async (pg) => {
    // The lock ends with its connection, and another recovery may be over by then: this one must do nothing any more.
    const stillAlone = async () => {
      await sql`SELECT 1`.execute(pg);
    };
    const installation = await known(pg, keys);
    const metas = await ours(connection, keys, installation);
    const problem = await problemOf({ ...deps, db: pg }, metas, installation);
    if (problem === undefined) return undefined;
    const runId = await connection.whenReady(5_000);
    const partitions = keys.map(({ partition }) => partition);

    // Before that is gone: what Redis alone knows of epochs and tokens, since Postgres was set back.
    const setBack = await findSetBack(pg, connection.redis, keys, metas);
    if (setBack) await makeUp(pg, setBack);
    // Then nobody may write: neither to Redis, nor what he has read there to Postgres. Whoever goes on with a recovery
    // that was cut off finds no meta: a part of one could look whole.
    for (const { meta } of keys) await connection.redis.unlink(meta);
    await takeOver(pg, partitions, `recovering since ${new Date().toISOString()}`);
    const salvaged: Salvage[] = [];
    const append = takeOverInto(createLedger(deps.pool, db), db);
    for (const each of keys) {
      await stillAlone();
      const its = await salvage(deps, connection.redis, each, ({ kind, events }) =>
        kind === 'whole' ? append(events) : putAside(db, events),
      );
      salvaged.push(its);
    }
    say(`taken over from the log: ${sum(salvaged, 'whole')} events; put aside: ${sum(salvaged, 'strange')}`);

    const recovery = await begin(pg, asked, problem);
    const seqOf = (partition: number) => {
      const of = salvaged[partition];
      return of ? of.ledgerSeq + of.whole : 0;
    };
    for (const each of keys) {
      await stillAlone();
      await rewindWhatIsAhead(deps, each.partition, seqOf(each.partition));
      await wipe(connection, deps.prefix, each, stillAlone);
    }
    await deps.forgetReads();
    const recovered: Recovered[] = [];
    for (const of of salvaged) {
      const { retentionMs, reactors, archives } = deps;
      const source = { db, archives, redis: connection.redis };
      const to = { seq: seqOf(of.partition), recovery, retentionMs, reactors, beforeWriting: stillAlone };
      const restored = await restorePartition(source, keys, of.partition, to);
      say(
        `partition ${of.partition}: ${restored.jobs} jobs, ${restored.schedules} schedules, ${restored.claims} claims`,
      );
      recovered.push({ ...of, ...restored });
    }
    for (const each of keys) {
      const { partition } = each;
      const before = metas[partition];
      await trust(pg, connection, each, { installation, seq: seqOf(partition), recovery, runId, before });
    }
    await sql`UPDATE recoveries SET ended_at = now() WHERE recovery = ${recovery}`.execute(pg);
    return recovered;
  });
}

async function problemOf(
  { db, connection, keys }: Pick<RecoverDeps, 'db' | 'connection' | 'keys'>,
  metas: readonly (Meta | undefined)[],
  installation: Installation,
): Promise<string | undefined> {
  return brokenMeta(metas, installation) ?? (await compareWithLedger(db, connection.redis, keys));
}

async function begin(
  db: Kysely<LedgerTables>,
  { by, reason }: { readonly by: string; readonly reason: string },
  problem: string,
): Promise<number> {
  const { rows } = await sql<{ recovery: number }>`
    WITH raised AS (UPDATE installation SET recovery = recovery + 1 RETURNING recovery)
    INSERT INTO recoveries (recovery, problem, asked_by, asked_for)
    SELECT recovery, ${problem}, ${by}, ${reason} FROM raised RETURNING recovery`.execute(db);
  const recovery = rows[0]?.recovery;
  if (recovery === undefined) throw new Error('the installation is gone');
  return recovery;
}

/** Read models that hold what is lost now: they are further than the ledger, or have read another event where they stand. */
async function rewindWhatIsAhead({ db, rewind }: RecoverDeps, partition: number, seq: number): Promise<void> {
  const ahead = await db
    .selectFrom('checkpoints as c')
    .leftJoin('ledger as l', (join) =>
      join.onRef('l.partition', '=', 'c.partition').onRef('l.seq', '=', 'c.seq'),
    )
    .select('c.group_name')
    .where('c.partition', '=', partition)
    .where('c.group_name', '<>', LEDGER_GROUP)
    .where(({ or, eb }) => or([eb('c.seq', '>', seq), eb('l.event_id', '<>', eb.ref('c.event_id'))]))
    .execute();
  for (const { group_name } of ahead) await rewind(group_name, partition);
}

/** All that Redis has of a partition, but that nobody is to trust it. */
async function wipe(
  { redis }: Connection,
  prefix: string,
  keys: PartitionKeys,
  beforeWriting: () => Promise<void>,
): Promise<void> {
  const match = `${prefix}:{${keys.tag}}:*`.replaceAll(/[[\]?\\]/g, '\\$&');
  for await (const found of redis.scanStream({ match, count: 1_000 })) {
    if (!Array.isArray(found)) continue;
    const doomed = found.map(String).filter((key) => key !== keys.meta);
    if (doomed.length === 0) continue;
    await beforeWriting();
    await redis.unlink(doomed);
  }
}

/** Last of all: from now on commits are accepted. */
async function trust(
  db: Kysely<LedgerTables>,
  { redis }: Connection,
  keys: PartitionKeys,
  to: {
    readonly installation: Installation;
    readonly seq: number;
    readonly recovery: number;
    readonly runId: string;
    readonly before: Meta | undefined;
  },
): Promise<void> {
  const { partition } = keys;
  const { seq, recovery, runId, before, installation } = to;
  const epoch = await db.transaction().execute(async (trx) => {
    // What was lost with the epochs until now is known to be: who was told of it need not stop anybody again.
    await sql`
      INSERT INTO losses (partition, epoch, seq, last_seq, accepted_at, accepted_by, accepted_for)
      SELECT partition, epoch, ${seq}, ${seq}, now(), 'recovery', ${`recovery ${recovery}`}
      FROM epochs WHERE partition = ${partition}
      ON CONFLICT (partition, epoch) DO UPDATE SET accepted_at = coalesce(losses.accepted_at, now())`.execute(
      trx,
    );
    await sql`UPDATE epochs SET last_seq = least(last_seq, ${seq}) WHERE partition = ${partition}`.execute(
      trx,
    );
    const newest = await sql<{ epoch: number }>`
      SELECT max(epoch) AS epoch FROM epochs WHERE partition = ${partition}`.execute(trx);
    const after = Math.max(before?.epoch ?? 0, Number(newest.rows[0]?.epoch ?? 0));
    return openEpoch(trx, partition, { after, lastSeq: seq, runId });
  });
  const { storeId, partitions } = installation;
  await redis.hset(keys.meta, {
    ...{ store: storeId, partitions, epoch, recovery, seq, run: runId, evicted: seq },
  });
}

function sum(salvaged: readonly Salvage[], what: 'whole' | 'strange'): number {
  return salvaged.reduce((all, each) => all + each[what], 0);
}
