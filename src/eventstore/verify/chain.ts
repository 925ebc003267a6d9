import { type Kysely, type Selectable, sql, type Transaction } from 'kysely';
import type { RawEvent } from '../../domain/event.ts';
import type { Archives } from '../archive/archives.ts';
import { ledgerHeads } from '../checkpoints.ts';
import { GENESIS, hashBatch } from '../ledger-hash.ts';
import { readLedger } from '../ledger-read.ts';
import type { LedgerTables } from '../tables.ts';
import type { Findings } from './findings.ts';

type Snapshot = Transaction<LedgerTables>;
type Batch = Selectable<LedgerTables['ledger_batches']>;

const PAGE = 2_000;

/**
 * Reads the whole ledger of a partition and computes its hash chain anew: a row that was changed, taken out or put in
 * shows, and so does a seq that is missing.
 * @returns how many events it has
 */
export async function verifyChain(
  snapshot: Snapshot,
  partition: number,
  findings: Findings,
  archives: Archives | undefined,
  onRead: (events: number) => void,
): Promise<number> {
  const where = `partition ${partition}`;
  const batches = batchesOf(snapshot, partition);
  let previous: Uint8Array = GENESIS;
  let batch = (await batches.next()).value;
  let gathered: RawEvent[] = [];
  let count = 0;
  let at = 0;

  for await (const event of eventsOf(snapshot, partition, { archives, onRead })) {
    count++;
    if (event.seq !== at + 1) {
      findings.add({ kind: 'missing_event', where, detail: `seq ${at + 1} to ${event.seq - 1} is missing` });
    }
    at = event.seq;
    // Batches whose events are gone.
    while (batch && batch.last_seq < event.seq) {
      checkBatch(batch, previous, gathered, where, findings);
      previous = batch.hash;
      gathered = [];
      batch = (await batches.next()).value;
    }
    if (!batch) {
      findings.add({
        kind: 'unchained_event',
        where,
        detail: `seq ${event.seq} stands behind the chain's end`,
      });
      continue;
    }
    gathered.push(event);
    if (event.seq === batch.last_seq) {
      checkBatch(batch, previous, gathered, where, findings);
      previous = batch.hash;
      gathered = [];
      batch = (await batches.next()).value;
    }
  }
  for (; batch; batch = (await batches.next()).value) {
    checkBatch(batch, previous, gathered, where, findings);
    previous = batch.hash;
    gathered = [];
    at = batch.last_seq;
  }
  const head = (await ledgerHeads(snapshot)).get(partition) ?? 0;
  if (head !== at) {
    findings.add({
      kind: 'missing_event',
      where,
      detail: `the checkpoint says seq ${head}, the rows end at ${at}`,
    });
  }
  return count;
}

function checkBatch(
  { first_seq, last_seq, previous, hash }: Batch,
  expected: Uint8Array,
  events: readonly RawEvent[],
  where: string,
  findings: Findings,
): void {
  const seqs = `seq ${first_seq} to ${last_seq}`;
  if (Buffer.compare(previous, expected) !== 0) {
    findings.add({ kind: 'broken_chain', where, detail: `${seqs} does not follow the batch before it` });
  }
  if (Buffer.compare(hash, hashBatch(previous, events)) !== 0) {
    findings.add({ kind: 'broken_chain', where, detail: `${seqs} is not what was appended` });
  }
}

async function* batchesOf(snapshot: Snapshot, partition: number): AsyncGenerator<Batch, undefined> {
  for (let after = 0; ; ) {
    const page = await snapshot
      .selectFrom('ledger_batches')
      .selectAll()
      .where('partition', '=', partition)
      .where('last_seq', '>', after)
      .orderBy('last_seq')
      .limit(PAGE)
      .execute();
    yield* page;
    const last = page.at(-1);
    if (!last) return;
    after = last.last_seq;
  }
}

/** All events of a partition, by seq. */
export async function* eventsOf(
  db: Kysely<LedgerTables>,
  partition: number,
  options: {
    readonly archives?: Archives | undefined;
    readonly onRead?: ((events: number) => void) | undefined;
    readonly upTo?: number;
  },
): AsyncGenerator<RawEvent> {
  const { archives, onRead = () => {}, upTo } = options;
  for (let after = 0; ; ) {
    const range = { partition, after, limit: PAGE, ...(upTo === undefined ? {} : { upTo }) };
    const page = await readLedger(db, range, archives);
    const last = page.at(-1);
    if (!last) return;
    onRead(page.length);
    yield* page;
    after = last.seq;
  }
}

/** Of rows that are in a file already, the file counts. */
const beyondArchives = sql`l.seq > coalesce(
  (SELECT max(last_seq) FROM ledger_archives AS a WHERE a.partition = l.partition), 0)`;

/** Streams whose versions are not 1, 2, 3 … in the order of their seqs, or are not what `stream_heads` says. */
export async function verifyVersions(snapshot: Snapshot, findings: Findings): Promise<void> {
  const gaps = await sql<{ stream_id: string; version: number; before: number }>`
    SELECT stream_id, version, before FROM (
      SELECT stream_id, version, coalesce(lag(last) OVER (PARTITION BY stream_id ORDER BY partition, seq), 0) AS before
      FROM (
        SELECT stream_id, version, version AS last, partition, seq FROM ledger AS l WHERE ${beyondArchives}
        UNION ALL SELECT stream_id, first_version, last_version, partition, last_seq FROM archived_streams
      ) AS parts
    ) AS versions
    WHERE version <> before + 1`.execute(snapshot);
  for (const { stream_id, version, before } of gaps.rows) {
    findings.add({
      kind: 'version_gap',
      where: stream_id,
      detail: `version ${before} is followed by ${version}`,
    });
  }
  const heads = await sql<{ stream_id: string; head: number | null; last: number | null }>`
    SELECT coalesce(h.stream_id, l.stream_id) AS stream_id, h.version AS head, l.version AS last
    FROM stream_heads AS h
    FULL JOIN (
      SELECT stream_id, max(version) AS version, max(seq) AS seq FROM (
        SELECT stream_id, version, seq FROM ledger AS l WHERE ${beyondArchives}
        UNION ALL SELECT stream_id, last_version, last_seq FROM archived_streams
      ) AS parts GROUP BY stream_id
    ) AS l
      ON l.stream_id = h.stream_id
    WHERE h.version IS DISTINCT FROM l.version OR h.seq IS DISTINCT FROM l.seq`.execute(snapshot);
  for (const { stream_id, head, last } of heads.rows) {
    const detail = `its head says version ${head ?? 'none'}, its events end at ${last ?? 'none'}`;
    findings.add({ kind: 'wrong_head', where: stream_id, detail });
  }
}
