import type { Redis } from 'ioredis';
import type { Kysely } from 'kysely';
import type { RawEvent } from '../../domain/event.ts';
import type { Archives } from '../archive/archives.ts';
import { LEDGER_GROUP, readCheckpoint } from '../checkpoints.ts';
import { readLedger } from '../ledger-read.ts';
import { parseLogEntries } from '../log.ts';
import type { PartitionKeys } from '../partitions.ts';
import type { LedgerTables } from '../tables.ts';
import type { Findings } from './findings.ts';

const PAGE = 1_000;

/**
 * Compares what log and ledger both hold of a partition: the same bytes under the same seq. What the log holds beyond
 * the ledger's head is on its way. Where they do not meet events are lost: in neither, or in Redis.
 * @returns how many events were compared
 */
export async function verifyOverlap(
  redis: Redis,
  db: Kysely<LedgerTables>,
  keys: PartitionKeys,
  findings: Findings,
  archives?: Archives,
): Promise<number> {
  const { partition } = keys;
  await verifySeam(redis, db, keys, findings);
  let compared = 0;
  for (let after = '-'; ; ) {
    const entries = await redis.xrange(keys.log, after, '+', 'COUNT', PAGE);
    const page = parseLogEntries(partition, entries);
    const first = page[0];
    const last = page.at(-1);
    if (!first || !last) return compared;
    const range = { partition, after: first.seq - 1, upTo: last.seq, limit: PAGE };
    const held = await readLedger(db, range, archives);
    const bySeq = new Map(held.map((event) => [event.seq, event]));
    const end = held.at(-1)?.seq ?? 0;
    for (const [index, event] of page.entries()) {
      const before = page[index - 1]?.seq ?? event.seq - 1;
      if (event.seq !== before + 1)
        missing(findings, keys, `seq ${before + 1} to ${event.seq - 1} is not in the log`);
      if (event.seq > end) continue;
      compared++;
      const other = bySeq.get(event.seq);
      if (!other || !same(event, other)) {
        const detail = `seq ${event.seq}: the log holds event ${event.id}, the ledger ${other?.id === event.id ? 'other bytes under that id' : (other?.id ?? 'none')}`;
        findings.add({ kind: 'fork', where: `partition ${partition}`, detail });
      }
    }
    after = `(${last.epoch}-${last.seq}`;
  }
}

/** Asked for in this order, what is appended, copied and trimmed meanwhile is no finding. */
async function verifySeam(
  redis: Redis,
  db: Kysely<LedgerTables>,
  keys: PartitionKeys,
  findings: Findings,
): Promise<void> {
  const first = seqOf(await redis.xrange(keys.log, '-', '+', 'COUNT', 1));
  const head = (await readCheckpoint(db, LEDGER_GROUP, keys.partition))?.seq ?? 0;
  const last = seqOf(await redis.xrevrange(keys.log, '+', '-', 'COUNT', 1));
  if (first > head + 1) {
    missing(
      findings,
      keys,
      `seq ${head + 1} to ${first - 1} is in neither: the ledger ends, and the log begins, there`,
    );
  }
  if (last < head)
    missing(findings, keys, `the log ends at seq ${last}, the ledger at ${head}: Redis lost events`);
}

const seqOf = (entries: readonly [id: string, fields: string[]][]) =>
  Number(entries[0]?.[0].split('-')[1] ?? 0);

function missing(findings: Findings, { partition }: PartitionKeys, detail: string): void {
  findings.add({ kind: 'missing_event', where: `partition ${partition}`, detail });
}

function same(one: RawEvent, other: RawEvent): boolean {
  return (
    one.id === other.id &&
    one.epoch === other.epoch &&
    one.streamId === other.streamId &&
    one.version === other.version &&
    one.type === other.type &&
    one.data === other.data &&
    one.meta === other.meta
  );
}
