import type { Redis } from 'ioredis';
import { type Kysely, sql } from 'kysely';
import { nextArchive } from './archive/archives.ts';
import { parseLogEntries } from './log.ts';
import { parseMeta } from './meta.ts';
import type { PartitionKeys } from './partitions.ts';
import type { LedgerTables } from './tables.ts';

/** Where the ledger or a group stands in a partition: what Redis' log must agree with. */
type Mark = {
  readonly partition: number;
  readonly epoch: number;
  readonly seq: number;
  readonly event_id: string | null;
  /** Null: the ledger's head. */
  readonly group_name: string | null;
};

const WHAT_TO_DO =
  'Commits stay stopped, so that nothing is lost for good: stop Redis, give it back its newest append-only file, and start it again; where there is none, `millrace recover` makes Redis anew from the ledger.';

/**
 * Compares Redis' log with the ledger and with every checkpoint: it must hold the event, not only the seq, at each
 * of them. Postgres is read first, so that events that are being appended or copied meanwhile do no harm.
 * @returns what is wrong, in words for an operator; undefined: they agree
 */
export async function compareWithLedger(
  db: Kysely<LedgerTables>,
  redis: Redis,
  keys: readonly PartitionKeys[],
): Promise<string | undefined> {
  const marks = [...(await ledgerHeads(db, keys.length)), ...(await checkpoints(db))];
  for (const each of keys) {
    const log = await readLog(redis, each);
    if (typeof log === 'string') return log;
    const own = marks.filter(({ partition }) => partition === each.partition);
    for (const mark of own) {
      const problem = await disagreement(db, redis, each, log, mark);
      if (problem !== undefined) return problem;
    }
    const head = own.find(({ group_name }) => group_name === null)?.seq ?? 0;
    if (log.first > head + 1 || (log.first > head && head > 0)) {
      return `The ledger ends at event ${head} of partition ${each.partition}, and Redis' log begins at ${log.first}: Postgres was restored from an older state, and what came between is in neither. Commits stay stopped: restore a newer backup of Postgres, and nothing is lost; or go on without events ${head + 1} to ${log.first - 1} of this partition, and what followed them, by \`millrace recover\` (docs/runbooks/postgres-down.md).`;
    }
  }
  return undefined;
}

async function readLog(redis: Redis, keys: PartitionKeys): Promise<{ seq: number; first: number } | string> {
  // In one transaction: events may be appended meanwhile.
  const replies = await redis
    .multi()
    .hmget(keys.meta, 'store', 'partitions', 'epoch', 'recovery', 'seq', 'run', 'evicted')
    .xrange(keys.log, '-', '+', 'COUNT', 1)
    .xrevrange(keys.log, '+', '-', 'COUNT', 1)
    .exec();
  const meta = parseMeta(replies?.[0]?.[1]);
  if (!meta) return `Redis has no record of partition ${keys.partition} any more. ${WHAT_TO_DO}`;
  const first = seqOf(replies?.[1]?.[1]);
  const last = seqOf(replies?.[2]?.[1]);
  if (last !== meta.seq) {
    return `Redis' log of partition ${keys.partition} ends at event ${last}, and its own record says ${meta.seq}: a part of it was removed. ${WHAT_TO_DO}`;
  }
  return { seq: meta.seq, first };
}

async function disagreement(
  db: Kysely<LedgerTables>,
  redis: Redis,
  keys: PartitionKeys,
  log: { seq: number; first: number },
  mark: Mark,
): Promise<string | undefined> {
  const { partition, epoch, seq, event_id, group_name } = mark;
  const whose = group_name === null ? 'the ledger' : `what ${group_name} has read`;
  if (seq > log.seq) {
    return `Redis holds events up to ${log.seq} of partition ${partition}, ${whose} up to ${seq}: Redis was restored from an older state, or lost writes in a failover. ${WHAT_TO_DO}`;
  }
  const id = `${epoch}-${seq}`;
  let found: string | null | undefined =
    seq < log.first ? undefined : eventIdIn(partition, await redis.xrange(keys.log, id, id));
  // Trimmed, as it should be, after the ledger had it; perhaps a moment ago.
  if (found === undefined && (seq < log.first || seq < (await firstOf(redis, keys)))) {
    const row = await db
      .selectFrom('ledger')
      .select('event_id')
      .where('partition', '=', partition)
      .where('seq', '=', seq)
      .executeTakeFirst();
    // What lies in a file was compared when it was archived, and says nothing of Redis.
    found = row?.event_id ?? ((await isArchived(db, partition, seq)) ? event_id : undefined);
  }
  if (found === event_id) return undefined;
  return `Event ${seq} of partition ${partition} is ${found ?? 'missing'} in Redis, and ${event_id} in ${whose}: Redis lost events and has since written others. ${WHAT_TO_DO}`;
}

async function isArchived(db: Kysely<LedgerTables>, partition: number, seq: number): Promise<boolean> {
  return (await nextArchive(db, { partition, after: seq - 1, upTo: seq })) !== undefined;
}

async function ledgerHeads(db: Kysely<LedgerTables>, partitions: number): Promise<Mark[]> {
  const { rows } = await sql<Mark>`
    SELECT p AS partition, head.epoch, head.seq, head.event_id, NULL AS group_name
    FROM generate_series(0, ${partitions - 1}::int) AS p
    CROSS JOIN LATERAL (
      SELECT epoch, seq, event_id FROM ledger WHERE partition = p ORDER BY seq DESC LIMIT 1
    ) AS head`.execute(db);
  return rows;
}

function checkpoints(db: Kysely<LedgerTables>): Promise<Mark[]> {
  return db
    .selectFrom('checkpoints')
    .select(['partition', 'epoch', 'seq', 'event_id', 'group_name'])
    .where('seq', '>', 0)
    .execute();
}

async function firstOf(redis: Redis, keys: PartitionKeys): Promise<number> {
  return seqOf(await redis.xrange(keys.log, '-', '+', 'COUNT', 1));
}

/** What is no event of ours is another one, and no reason to stop comparing: `recover` has to get by it. */
function eventIdIn(partition: number, entries: unknown): string | undefined {
  try {
    return parseLogEntries(partition, entries)[0]?.id;
  } catch {
    return 'unreadable';
  }
}

function seqOf(entries: unknown): number {
  if (!Array.isArray(entries) || !Array.isArray(entries[0])) return 0;
  return Number(String(entries[0][0]).split('-')[1]);
}
