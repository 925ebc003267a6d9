import { setTimeout as sleep } from 'node:timers/promises';
import { type Kysely, sql } from 'kysely';
import type { RawEvent } from '../../domain/event.ts';
import type { EventCodec } from '../../domain/events.ts';
import type { StreamId } from '../../domain/ids.ts';
import type { Archives } from '../../eventstore/archive/archives.ts';
import { ledgerHeads } from '../../eventstore/checkpoints.ts';
import { readStream } from '../../eventstore/ledger-read.ts';
import { StoreUnavailableError } from '../../eventstore/types.ts';
import { eventsOf } from '../../eventstore/verify/chain.ts';
import type { Findings } from '../../eventstore/verify/findings.ts';
import { onSnapshot } from '../../eventstore/verify/snapshot.ts';
import type { Database } from '../database.ts';
import { type Concern, foldBatch, readBatch } from '../fold.ts';
import { liveReadModel, type ReadModel } from '../generations.ts';
import type { AnyProjection, AnyRow } from '../projection.ts';
import { compareRows, keysOf } from './rows.ts';

/** A moment, unless it has stopped. */
const LEDGER_WITHIN_MS = 10_000;

export type VerifyOptions = {
  /** Only rows that events of this time or later concern. */
  readonly since?: Date;
  /** Only about this part of the streams, 0 < sample ≤ 1. The same ones each time. */
  readonly sample?: number;
  /** Where the ledger's oldest events are read from. */
  readonly archives?: Archives | undefined;
  /** Called with each page's number of events. */
  readonly onRead?: (events: number) => void;
  /** Most rows folded at once; more than that are folded in several passes over the ledger. Default 200,000. */
  readonly rowsAtOnce?: number;
};

export type Verified = { readonly rows: number; readonly events: number };

/**
 * Folds the ledger anew and compares with the live rows, all as of one moment: each partition up to the position at
 * which the read model stood then. What is parked is parked in the fold, too, and is a finding.
 */
export function verifyProjection<R extends AnyRow>(
  db: Kysely<Database>,
  projection: AnyProjection<R>,
  codec: EventCodec,
  findings: Findings,
  options: VerifyOptions = {},
): Promise<Verified> {
  return onSnapshot(db, async (snapshot) => {
    // Named by the row, as the snapshot has it: its view may have gone on to another generation since.
    const model = await liveReadModel(snapshot, projection);
    const checkpoints = await checkpointsOf(snapshot, model.group);
    // A read model may be ahead of the ledger. What it has seen never changes: it is read beside the snapshot.
    await ledgerReaches(db, checkpoints);
    const check = { snapshot, ledger: db, model, projection, codec, findings, checkpoints, options };
    return options.since || options.sample !== undefined ? verifySome(check) : verifyAll(check);
  });
}

type Check<R extends AnyRow> = {
  /** For rows. */
  readonly snapshot: Kysely<Database>;
  /** For events. */
  readonly ledger: Kysely<Database>;
  readonly projection: AnyProjection<R>;
  readonly model: ReadModel<R>;
  readonly codec: EventCodec;
  readonly findings: Findings;
  /** Seq up to which the read model holds each partition. */
  readonly checkpoints: ReadonlyMap<number, number>;
  readonly options: VerifyOptions;
};

/** In several passes where the rows are many: a pass folds those whose keys fall into its bucket. */
async function verifyAll<R extends AnyRow>(check: Check<R>): Promise<Verified> {
  const { snapshot, ledger, projection, model, findings, checkpoints, options } = check;
  const table = sql.table(model.table);
  const counted = await sql<{ count: number }>`SELECT count(*) AS count FROM ${table}`.execute(snapshot);
  const buckets = Math.max(1, Math.ceil((counted.rows[0]?.count ?? 0) / (options.rowsAtOnce ?? 200_000)));
  let events = 0;
  let rows = 0;
  for (let bucket = 0; bucket < buckets; bucket++) {
    const fold = createFold(check, (key) => buckets === 1 || bucketOf(key, buckets) === bucket);
    for (const [partition, upTo] of checkpoints) {
      for await (const event of eventsOf(ledger, partition, { ...options, upTo })) {
        fold.take(event);
        events++;
      }
    }
    const expected = fold.end();
    rows += expected.size;
    await compareRows(snapshot, model, expected, findings);
    for await (const keys of keysOf(snapshot, model)) {
      for (const key of keys) {
        if (expected.has(key) || (buckets > 1 && bucketOf(key, buckets) !== bucket)) continue;
        findings.add({
          kind: 'row_unfounded',
          where: `${projection.table} ${key}`,
          detail: 'no event makes it',
        });
      }
    }
  }
  return { rows, events: events / buckets };
}

/** Rows of some streams: those streams' keys, then whatever events these keys have. */
async function verifySome<R extends AnyRow>(check: Check<R>): Promise<Verified> {
  const { snapshot, ledger, projection, model, codec, findings, options } = check;
  let rows = 0;
  let events = 0;
  for await (const streams of streamsWanted(ledger, options)) {
    const found = await readStreams(check, streams);
    const keys = new Set(readBatch(projection, codec, found).map(({ key }) => key));
    const its = [...keys].flatMap((key) => projection.streamsOf?.(key) ?? [key as StreamId]);
    const fold = createFold(check, (key) => keys.has(key));
    const all = await readStreams(check, its);
    for (const event of all) fold.take(event);
    const expected = fold.end();
    options.onRead?.(all.length);
    events += all.length;
    rows += expected.size;
    await compareRows(snapshot, model, expected, findings);
  }
  return { rows, events };
}

/** Folds in batches, as the runner does; what it parks is a finding. */
function createFold<R extends AnyRow>(check: Check<R>, wants: (key: string) => boolean) {
  const { projection, codec, findings } = check;
  const rows = new Map<string, R>();
  const blocked = new Set<string>();
  let waiting: Concern[] = [];
  const flush = () => {
    const folded = foldBatch(projection, waiting, { rows, blocked });
    waiting = [];
    for (const [key, row] of folded.rows) rows.set(key, row);
    for (const { event, rowKey, error } of folded.parked) {
      blocked.add(rowKey);
      const where = `${projection.table} ${rowKey}`;
      findings.add({ kind: 'parked', where, detail: `${event.type} at seq ${event.seq}: ${error}` });
    }
  };
  return {
    take(event: RawEvent): void {
      for (const concern of readBatch(projection, codec, [event])) {
        if (wants(concern.key)) waiting.push(concern);
      }
      if (waiting.length >= 1_000) flush();
    },
    end(): ReadonlyMap<string, R> {
      flush();
      return rows;
    },
  };
}

/** Throws `StoreUnavailableError` when it takes too long: then the ledger stands still. */
async function ledgerReaches(db: Kysely<Database>, checkpoints: ReadonlyMap<number, number>): Promise<void> {
  const deadline = performance.now() + LEDGER_WITHIN_MS;
  for (;;) {
    const heads = await ledgerHeads(db);
    const behind = [...checkpoints].find(([partition, seq]) => (heads.get(partition) ?? 0) < seq);
    if (!behind) return;
    if (performance.now() > deadline) {
      throw new StoreUnavailableError(
        `the ledger of partition ${behind[0]} stays behind seq ${behind[1]}, which the read model has seen`,
      );
    }
    await sleep(50);
  }
}

async function checkpointsOf(db: Kysely<Database>, group: string): Promise<Map<number, number>> {
  const rows = await db
    .selectFrom('checkpoints')
    .select(['partition', 'seq'])
    .where('group_name', '=', group)
    .orderBy('partition')
    .execute();
  return new Map(rows.map(({ partition, seq }) => [partition, seq]));
}

const STREAMS_AT_ONCE = 500;

async function* streamsWanted(
  db: Kysely<Database>,
  { since, sample }: VerifyOptions,
): AsyncGenerator<readonly StreamId[]> {
  const part =
    sample === undefined
      ? sql`true`
      : sql`abs(hashtext(stream_id)::bigint) <= ${Math.round(sample * 2 ** 31)}`;
  const touched =
    since === undefined
      ? sql`true`
      : sql`(EXISTS (SELECT FROM ledger AS l WHERE l.stream_id = h.stream_id AND l.recorded_at >= ${since})
          OR EXISTS (SELECT FROM archived_streams AS s JOIN ledger_archives AS a ON a.partition = s.partition
            AND a.last_seq = s.archive WHERE s.stream_id = h.stream_id AND a.last_at >= ${since}))`;
  for (let after = ''; ; ) {
    const { rows } = await sql<{ stream_id: StreamId }>`
      SELECT stream_id FROM stream_heads AS h
      WHERE stream_id > ${after} AND ${part} AND ${touched}
      ORDER BY stream_id LIMIT ${STREAMS_AT_ONCE}`.execute(db);
    const last = rows.at(-1);
    if (!last) return;
    yield rows.map(({ stream_id }) => stream_id);
    after = last.stream_id;
  }
}

/** Events of streams that the read model has seen, in the order in which it has. */
async function readStreams<R extends AnyRow>(
  { ledger, checkpoints, options }: Check<R>,
  streams: readonly StreamId[],
): Promise<RawEvent[]> {
  const { rows } = await sql<RawEvent>`
    SELECT partition, epoch, seq, event_id AS id, stream_id AS "streamId", version, type, data, meta
    FROM ledger WHERE stream_id = ANY(${streams}::text[]) ORDER BY partition, seq`.execute(ledger);
  const inFiles = await streamsInFiles(ledger, streams);
  const all = rows.filter(({ streamId }) => !inFiles.has(streamId));
  for (const id of inFiles) all.push(...(await readStream(ledger, id, {}, options.archives)));
  all.sort((a, b) => a.partition - b.partition || a.seq - b.seq);
  return all.filter(({ partition, seq }) => seq <= (checkpoints.get(partition) ?? 0));
}

async function streamsInFiles(
  db: Kysely<Database>,
  streams: readonly StreamId[],
): Promise<ReadonlySet<StreamId>> {
  const { rows } = await sql<{ stream_id: string }>`
    SELECT DISTINCT stream_id FROM archived_streams WHERE stream_id = ANY(${streams}::text[])`.execute(db);
  return new Set(rows.map(({ stream_id }) => stream_id as StreamId));
}

/** FNV-1a: spreads keys, and the same ones each time. */
function bucketOf(key: string, buckets: number): number {
  let hash = 0x811c9dc5;
  for (let at = 0; at < key.length; at++) hash = Math.imul(hash ^ key.charCodeAt(at), 0x01000193);
  return (hash >>> 0) % buckets;
}
