import type { Kysely } from 'kysely';
import type { Pool, PoolClient } from 'pg';
import type { RawEvent } from '../domain/event.ts';
import { LEDGER_GROUP, openCheckpoint } from '../eventstore/checkpoints.ts';
import { GENESIS, hashBatch } from '../eventstore/ledger-hash.ts';
import type { LedgerTables } from '../eventstore/tables.ts';
import { type Checkpoint, FencedError, type OrderedGroup } from '../eventstore/types.ts';
import { LedgerForkError } from './ledger-errors.ts';
import { ledgerRow, storable, streamMoves } from './ledger-rows.ts';

const MOVE = `
  UPDATE checkpoints SET epoch = $5, seq = $6, event_id = $7, moved_at = now()
  WHERE group_name = '${LEDGER_GROUP}' AND partition = $1 AND token = $2
    AND seq = $3 AND event_id IS NOT DISTINCT FROM $4`;

/**
 * One statement for all rows: jsonb_to_recordset would rewrite and refuse some texts, json_to_recordset gives
 * them back as they were. Never ON CONFLICT: whoever comes second must be seen.
 */
const APPEND = `
  WITH events AS (
    SELECT * FROM json_to_recordset($2::json) AS e(seq bigint, epoch int, id text, stream text, version int,
      type text, owner text, correlation text, at timestamptz, data text, meta text)
  ), appended AS (
    INSERT INTO ledger (partition, seq, epoch, event_id, stream_id, version, type, owner, correlation,
      recorded_at, data, meta)
    SELECT $1, seq, epoch, id, stream, version, type, owner, correlation, at, data, meta FROM events
  ), moves AS (
    SELECT * FROM json_to_recordset($3::json) AS m(stream text, first int, last int, seq bigint)
  ), moved AS (
    UPDATE stream_heads h SET version = m.last, seq = m.seq FROM moves m
    WHERE m.first > 1 AND h.stream_id = m.stream AND h.version = m.first - 1
    RETURNING 1
  ), begun AS (
    INSERT INTO stream_heads (stream_id, partition, version, seq)
    SELECT stream, $1, last, seq FROM moves WHERE first = 1
    RETURNING 1
  ), chained AS (
    INSERT INTO ledger_batches (partition, first_seq, last_seq, previous, hash) VALUES ($1, $4, $5, $6, $7)
  )
  SELECT (SELECT count(*) FROM moved) + (SELECT count(*) FROM begun) AS streams`;

/**
 * The ledger: every event's exact bytes, for good. An ordered group that decodes nothing but the owner,
 * correlation and time by which rows are found, so that no event can stop it.
 *
 * In one transaction: the checkpoint moves by compare-and-set under the fencing token, the rows are
 * appended, the head of every stream moves from exactly the version before, and the hash chain grows by a batch.
 *
 * @param pool as `openPool` makes it, since named statements are prepared once and Kysely has none
 *
 * @param options.observe told of each batch that is in the ledger, and when it began (ms since 1970)
 *
 * `apply` throws `FencedError`, or `LedgerForkError` when log and ledger tell different histories.
 */
export function createLedger(
  pool: Pool,
  db: Kysely<LedgerTables>,
  options: {
    readonly now?: () => Date;
    readonly observe?: (events: readonly RawEvent[], startTime: number) => void;
  } = {},
): OrderedGroup {
  const { now = () => new Date(), observe } = options;
  /** The chain's end of each partition, as the last batch of ours left it. */
  const ends = new Map<number, { seq: number; hash: Buffer }>();

  async function append(
    client: PoolClient,
    partition: number,
    from: Checkpoint,
    events: readonly RawEvent[],
    token: number,
  ): Promise<{ checkpoint: Checkpoint; hash: Buffer }> {
    const first = events[0];
    const last = events.at(-1);
    if (!first || !last) throw new Error('a batch holds at least one event');
    const checkpoint: Checkpoint = { epoch: last.epoch, seq: last.seq, eventId: last.id };
    const moved = await client.query({
      name: 'ledger-checkpoint',
      text: MOVE,
      values: [partition, token, from.seq, from.eventId, last.epoch, last.seq, last.id],
    });
    if (moved.rowCount !== 1) throw new FencedError(`the ledger of partition ${partition} has another owner`);

    const known = ends.get(partition);
    const previous = known?.seq === from.seq ? known.hash : await endOfChain(client, partition, from.seq);
    const hash = hashBatch(previous, events);
    const moves = streamMoves(events);
    const rows = events.map((event) => ledgerRow(event, now()));
    const appended = await client.query<{ streams: number }>({
      name: 'ledger-append',
      text: APPEND,
      values: [
        partition,
        JSON.stringify(rows),
        JSON.stringify(moves),
        first.seq,
        last.seq,
        Buffer.from(previous),
        hash,
      ],
    });
    const continued = Number(appended.rows[0]?.streams);
    if (continued !== moves.length) {
      throw new LedgerForkError(
        `partition ${partition}, seq ${first.seq} to ${last.seq}: ${moves.length - continued} of ${moves.length} streams do not continue the version that the ledger holds`,
      );
    }
    return { checkpoint, hash };
  }

  return {
    name: LEDGER_GROUP,
    open(partition, token) {
      ends.delete(partition);
      return openCheckpoint(db, LEDGER_GROUP, partition, token);
    },
    async apply(partition, from, batch, token) {
      const events = batch.filter(({ seq }) => seq > from.seq).map(storable);
      await checkRedelivered(pool, partition, batch.filter(({ seq }) => seq <= from.seq).map(storable));
      if (events.length === 0) return from;
      const startTime = Date.now();
      const done = await inTransaction(pool, (client) =>
        append(client, partition, from, events, token),
      ).catch((error: unknown) => {
        throw isUniqueViolation(error) ? forkOf(partition, events, error) : error;
      });
      ends.set(partition, { seq: done.checkpoint.seq, hash: done.hash });
      observe?.(events, startTime);
      return done.checkpoint;
    },
  };
}

/** An event that comes again is the same one, or history has forked. */
async function checkRedelivered(pool: Pool, partition: number, events: readonly RawEvent[]): Promise<void> {
  if (events.length === 0) return;
  const { rows } = await pool.query<{ seq: number; event_id: string }>(
    'SELECT seq, event_id FROM ledger WHERE partition = $1 AND seq = ANY($2::bigint[])',
    [partition, events.map(({ seq }) => seq)],
  );
  const known = new Map(rows.map(({ seq, event_id }) => [Number(seq), event_id]));
  for (const { seq, id } of events) {
    if (known.get(seq) !== id) {
      throw new LedgerForkError(
        `partition ${partition}, seq ${seq}: the log holds event ${id}, the ledger ${known.get(seq) ?? 'none'}`,
      );
    }
  }
}

async function endOfChain(client: PoolClient, partition: number, seq: number): Promise<Buffer> {
  const { rows } = await client.query<{ last_seq: number; hash: Buffer }>(
    'SELECT last_seq, hash FROM ledger_batches WHERE partition = $1 ORDER BY last_seq DESC LIMIT 1',
    [partition],
  );
  const end = rows[0];
  if (Number(end?.last_seq ?? 0) !== seq) {
    throw new LedgerForkError(
      `partition ${partition}: the hash chain ends at seq ${end?.last_seq ?? 0}, the checkpoint at ${seq}`,
    );
  }
  return end?.hash ?? GENESIS;
}

async function inTransaction<T>(pool: Pool, work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query('BEGIN');
    const result = await work(client);
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch((failed: unknown) => {
      broken = failed instanceof Error ? failed : new Error(String(failed));
    });
    throw error;
  } finally {
    client.release(broken);
  }
}

function isUniqueViolation(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === '23505';
}

function forkOf(partition: number, events: readonly RawEvent[], cause: unknown): LedgerForkError {
  const detail = cause instanceof Error && 'detail' in cause ? String(cause.detail) : '';
  return new LedgerForkError(
    `partition ${partition}, seq ${events[0]?.seq} to ${events.at(-1)?.seq}: the ledger already holds what is to be appended. ${detail}`,
    { cause },
  );
}
