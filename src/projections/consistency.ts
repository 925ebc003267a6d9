import { type Kysely, sql } from 'kysely';
import type { Position } from '../domain/position.ts';
import type { CheckpointWaits, WaitOutcome } from '../eventstore/waits.ts';
import type { Database } from './database.ts';
import { anyParked } from './parked.ts';

export type ReadAtLeastDeps = {
  readonly db: Kysely<Database>;
  /** Of `createCheckpointWaits`. */
  readonly waitFor: CheckpointWaits['waitFor'];
};

/**
 * `ok`: the read model includes the events at all positions. `behind`: not within the time. `lost`: a position
 * was lost with Redis and will never come. `parked`: it came, but the projection could not apply it.
 */
export type ReadAtLeast = 'ok' | 'behind' | 'lost' | 'parked';

/**
 * Waits until a read model includes the events at all of these positions, or says why it does not. What no
 * waiting would change (`lost`, `parked`) is said rather than `behind`, `lost` at once.
 * @param wait.group `groupOf(projection)`
 */
export async function readAtLeast(
  deps: ReadAtLeastDeps,
  wait: {
    readonly group: string;
    readonly positions: readonly Position[];
    readonly timeoutMs: number;
    readonly signal?: AbortSignal;
  },
): Promise<ReadAtLeast> {
  const { group, positions, timeoutMs } = wait;
  const done = new AbortController();
  const signal = wait.signal ? AbortSignal.any([wait.signal, done.signal]) : done.signal;
  const lost = Promise.withResolvers<WaitOutcome[]>();
  const waits = positions.map(async (position) => {
    const outcome = await deps.waitFor({ group, position, timeoutMs, signal });
    if (outcome === 'lost') lost.resolve([outcome]);
    return outcome;
  });
  try {
    const outcomes = await Promise.race([lost.promise, Promise.all(waits)]);
    if (outcomes.includes('lost')) return 'lost';
    if (positions.length > 0 && (await anyParked(deps.db, group, positions))) return 'parked';
    return outcomes.includes('timeout') ? 'behind' : 'ok';
  } finally {
    // Nobody waits for the others any more.
    done.abort();
  }
}

/** What a snapshot of a read model includes. */
export type Included = {
  /** It holds the events at all positions, and could apply each of them. */
  readonly all: boolean;
  /**
   * How far it is, for each partition asked about that it has begun with: the last event that it could apply, as who brings
   * the position of one that is parked is told so, and gets no answer.
   */
  readonly at: readonly Position[];
};

/** One for each partition that the positions or `partitions` name. */
type Standing = {
  readonly partition: number;
  readonly epoch: number | null;
  readonly seq: number | null;
  readonly included: boolean;
};

/** Parked events that are looked through for the last one that is not: behind more of them it is left unsaid how far it is. */
const MOST_PARKED = 1_000;

/**
 * Whether a read model includes the events at all positions, and how far it is in these and other partitions: in the
 * snapshot of the transaction that asks, so that it is as true of the rows that the same transaction reads.
 * @param partitions of the rows that will be read; undefined: all
 */
export async function includedIn(
  snapshot: Kysely<Database>,
  group: string,
  positions: readonly Position[],
  partitions: readonly number[] | undefined,
): Promise<Included> {
  const asked = [
    positions.map(({ partition }) => partition),
    positions.map(({ epoch }) => epoch),
    positions.map(({ seq }) => seq),
  ];
  const { rows } = await sql<Standing>`
    WITH asked AS (
      SELECT * FROM unnest(${asked[0]}::int[], ${asked[1]}::int[], ${asked[2]}::bigint[]) AS asked(partition, epoch, seq)
    ), standing AS (
      SELECT c.partition, c.seq, CASE WHEN parked.events = 0 THEN c.seq WHEN parked.events < ${MOST_PARKED} THEN c.seq - parked.events END AS applied, c.epoch AS newest
      FROM checkpoints AS c
      CROSS JOIN LATERAL (
        SELECT count(*) AS events FROM (
          SELECT seq, row_number() OVER (ORDER BY seq DESC) AS place FROM parked_events
          WHERE group_name = ${group} AND partition = c.partition AND seq <= c.seq ORDER BY seq DESC LIMIT ${MOST_PARKED}
        ) AS last
        WHERE last.seq = c.seq + 1 - last.place
      ) AS parked
      WHERE c.group_name = ${group}
    )
    SELECT coalesce(asked.partition, standing.partition) AS partition, standing.applied AS seq,
      CASE WHEN standing.applied = standing.seq THEN standing.newest ELSE (
        SELECT max(e.epoch) FROM epochs AS e
        WHERE e.partition = standing.partition AND standing.applied BETWEEN e.first_seq AND coalesce(e.last_seq, standing.applied)
      ) END AS epoch, coalesce(bool_and(
        asked.seq IS NULL
        OR asked.seq <= standing.seq AND asked.seq <= coalesce(epochs.last_seq, asked.seq)
          AND epochs.epoch IS NOT NULL AND NOT EXISTS (
            SELECT FROM parked_events AS parked
            WHERE parked.group_name = ${group} AND parked.partition = asked.partition AND parked.seq = asked.seq
          )
      ), false) AS included
    FROM asked
    FULL JOIN standing ON standing.partition = asked.partition
    LEFT JOIN epochs ON epochs.partition = asked.partition AND epochs.epoch = asked.epoch
    GROUP BY 1, standing.partition, standing.seq, standing.applied, standing.newest`.execute(snapshot);
  const wanted = new Set([...(partitions ?? []), ...positions.map(({ partition }) => partition)]);
  return {
    all: rows.every(({ included }) => included),
    at: rows.flatMap(({ partition, epoch, seq }) =>
      epoch !== null && seq !== null && seq > 0 && (partitions === undefined || wanted.has(partition))
        ? [{ partition, epoch, seq }]
        : [],
    ),
  };
}
