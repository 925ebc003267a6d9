import type { Redis } from 'ioredis';
import type { Kysely } from 'kysely';
import type { RawEvent } from '../../domain/event.ts';
import type { Archives } from '../archive/archives.ts';
import { readLedger } from '../ledger-read.ts';
import { parseLogEntries } from '../log.ts';
import type { PartitionKeys } from '../partitions.ts';
import type { LedgerTables } from '../tables.ts';
import type { Findings } from './findings.ts';

const PAGE = 1_000;

/**
 * Compares what log and ledger both hold of a partition: the same bytes under the same seq. What the log holds beyond
 * the ledger's head is on its way.
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
    for (const event of page) {
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
