import type { Kysely } from 'kysely';
import type { Pool } from 'pg';
import type { RawEvent } from '../domain/event.ts';
import { LEDGER_GROUP, openCheckpoint } from '../eventstore/checkpoints.ts';
import { GENESIS, hashBatch } from '../eventstore/ledger-hash.ts';
import type { LedgerTables } from '../eventstore/tables.ts';
import { type Checkpoint, FencedError, type OrderedGroup } from '../eventstore/types.ts';
import { LedgerForkError } from './ledger-errors.ts';
import { eventColumns, moveColumns, storable, streamMoves } from './ledger-rows.ts';

/** SQLSTATE of the database's function `refuse`. */
const REFUSED = 'MR001';
const UNIQUE_VIOLATION = '23505';

/**
 * All of a batch in one statement, and so in one transaction: nothing of it is done unless the checkpoint moves. Values come
 * as arrays in Postgres' own form: they need no parsing, and arrive as they were. Never ON CONFLICT for events and streams that
 * begin: whoever comes second must be seen. A stream that goes on moves by as many versions as it has events here,
 * and what it comes to is compared, since a join could be planned as a look at all streams there are.
 */
const APPEND = `
  WITH moved AS (
    UPDATE checkpoints SET epoch = $5, seq = $6, event_id = $7, moved_at = now()
    WHERE group_name = '${LEDGER_GROUP}' AND partition = $1 AND token = $2
      AND seq = $3 AND event_id IS NOT DISTINCT FROM $4
    RETURNING seq
  ), appended AS (
    INSERT INTO ledger (partition, seq, epoch, event_id, stream_id, version, type, owner, correlation,
      recorded_at, data, meta)
    SELECT $1, events.* FROM unnest($11::bigint[], $12::int[], $13::text[], $14::text[], $15::int[], $16::text[],
      $17::text[], $18::text[], $19::timestamptz[], $20::text[], $21::text[]) AS events
    WHERE EXISTS (SELECT FROM moved)
  ), begun AS (
    INSERT INTO stream_heads (stream_id, partition, version, seq)
    SELECT stream, $1, version, seq FROM unnest($22::text[], $23::int[], $24::bigint[]) AS s(stream, version, seq)
    WHERE EXISTS (SELECT FROM moved)
  ), given AS (
    SELECT * FROM unnest($25::text[], $26::int[], $27::int[], $28::bigint[]) AS s(stream, events, version, seq)
  ), continued AS (
    INSERT INTO stream_heads AS head (stream_id, partition, version, seq)
    SELECT stream, $1, events, seq FROM given WHERE EXISTS (SELECT FROM moved)
    ON CONFLICT (stream_id) DO UPDATE SET version = head.version + excluded.version, seq = excluded.seq
    RETURNING stream_id, version
  ), astray AS (
    SELECT count(*) AS streams FROM continued JOIN given ON stream = stream_id
    WHERE continued.version <> given.version
  ), chained AS (
    INSERT INTO ledger_batches (partition, first_seq, last_seq, previous, hash)
    SELECT $1, $8, $6, $9, $10 WHERE EXISTS (SELECT FROM moved)
  )
  SELECT seq, CASE WHEN streams > 0 THEN refuse(streams || ' streams do not continue the version that the ledger holds') END
  FROM moved, astray`;

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
    partition: number,
    from: Checkpoint,
    events: readonly RawEvent[],
    token: number,
  ): Promise<Checkpoint> {
    const first = events[0];
    const last = events.at(-1);
    if (!first || !last) throw new Error('a batch holds at least one event');
    const known = ends.get(partition);
    const previous =
      known?.seq === from.seq ? known.hash : await endOfChain(pool, partition, from.seq, token);
    const hash = hashBatch(previous, events);
    const { rows } = await pool.query({
      name: 'ledger-append',
      text: APPEND,
      values: [
        ...[partition, token, from.seq, from.eventId, last.epoch, last.seq, last.id],
        ...[first.seq, Buffer.from(previous), hash],
        ...eventColumns(events, now()),
        ...moveColumns(streamMoves(events)),
      ],
    });
    if (rows.length !== 1) throw fenced(partition);
    ends.set(partition, { seq: last.seq, hash });
    return { epoch: last.epoch, seq: last.seq, eventId: last.id };
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
      const checkpoint = await append(partition, from, events, token).catch((error: unknown) => {
        throw forkOf(partition, events, error) ?? error;
      });
      observe?.(events, startTime);
      return checkpoint;
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

/** The hash of the batch that ends where the owner of this token stands. Throws `FencedError` where it is not the owner. */
async function endOfChain(pool: Pool, partition: number, seq: number, token: number): Promise<Buffer> {
  const { rows } = await pool.query<{ owned: boolean; last_seq: number | null; hash: Buffer | null }>(
    `SELECT checkpoints.seq = $2 AND token = $3 AS owned, last_seq, hash
    FROM checkpoints LEFT JOIN LATERAL (
      SELECT last_seq, hash FROM ledger_batches WHERE partition = $1 ORDER BY last_seq DESC LIMIT 1
    ) AS chain ON true
    WHERE group_name = '${LEDGER_GROUP}' AND partition = $1`,
    [partition, seq, token],
  );
  const [end] = rows;
  if (!end?.owned) throw fenced(partition);
  if ((end.last_seq ?? 0) !== seq) {
    throw new LedgerForkError(
      `partition ${partition}: the hash chain ends at seq ${end.last_seq ?? 0}, the checkpoint at ${seq}`,
    );
  }
  return end.hash ?? GENESIS;
}

function fenced(partition: number): FencedError {
  return new FencedError(`the ledger of partition ${partition} has another owner`);
}

/** Undefined: something else went wrong. */
function forkOf(partition: number, events: readonly RawEvent[], cause: unknown): LedgerForkError | undefined {
  if (!(cause instanceof Error && 'code' in cause)) return undefined;
  const what = `partition ${partition}, seq ${events[0]?.seq} to ${events.at(-1)?.seq}`;
  if (cause.code === REFUSED) return new LedgerForkError(`${what}: ${cause.message}`, { cause });
  if (cause.code !== UNIQUE_VIOLATION) return undefined;
  const detail = 'detail' in cause ? String(cause.detail) : '';
  return new LedgerForkError(`${what}: the ledger already holds what is to be appended. ${detail}`, {
    cause,
  });
}
