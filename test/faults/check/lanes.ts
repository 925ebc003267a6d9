import type { History, Violation } from '../history.ts';
import { type JobRecord, jobsOf } from './jobs.ts';

/**
 * One time that a job waits for its ordering key and holds it: from the event that makes it wait (JobEnqueued, or
 * JobRetried after it had given the key up) to the one that frees the key. In seqs of the partition.
 */
type Turn = {
  readonly jobId: string;
  readonly seq: number;
  /** Due at this time (ms since 1970); absent: at once, with its event. */
  readonly runAt?: number;
  /** Committed after this, by the clock of its API (ms since 1970). */
  readonly decidedAt: number;
  /** Committed by then at the latest (ms since 1970), as its client knows. */
  readonly knownAt: number;
  start?: number;
  freed?: number;
};

/** Jobs of one ordering key run strictly one after another, in the order in which they became due. */
export function checkLanes({ events, promises }: History): Violation[] {
  const acknowledged = new Map(
    promises.flatMap(({ jobIds, at }) => jobIds.map((jobId) => [jobId, at] as const)),
  );
  const lanes = new Map<string, { partitions: Set<number>; turns: Turn[] }>();
  for (const [jobId, records] of jobsOf(events)) {
    const [first] = records;
    const { orderingKey, queue } = first?.data ?? {};
    if (!first || orderingKey === undefined) continue;
    const lane = lanes.get(`${queue} ${orderingKey}`) ?? { partitions: new Set(), turns: [] };
    lanes.set(`${queue} ${orderingKey}`, lane);
    lane.partitions.add(first.partition);
    lane.turns.push(...turnsOf(jobId, records, acknowledged.get(jobId) ?? Number.POSITIVE_INFINITY));
  }
  return [...lanes].flatMap(([key, { partitions, turns }]): Violation[] =>
    partitions.size > 1
      ? [{ count: 'outOfOrder', what: `${key} lies in partitions ${[...partitions].join(', ')}` }]
      : checkTurns(key, turns),
  );
}

function turnsOf(jobId: string, records: readonly JobRecord[], acknowledgedAt: number): Turn[] {
  const turns: Turn[] = [];
  for (const { type, seq, data, at: decidedAt } of records) {
    let turn = turns.at(-1);
    if (type === 'JobEnqueued') {
      const due = data.runAt === undefined ? {} : { runAt: Date.parse(data.runAt) };
      turns.push({ jobId, seq, decidedAt, knownAt: acknowledgedAt, ...due });
    } else if (type === 'JobRetried' && turn?.freed !== undefined) {
      turns.push({ jobId, seq, decidedAt, knownAt: Number.POSITIVE_INFINITY });
    }
    turn = turns.at(-1);
    if (!turn) continue;
    if (type === 'JobStarted') turn.start ??= seq;
    if (type === 'JobCompleted' || type === 'JobCancelled' || type === 'JobDiscarded') turn.freed ??= seq;
  }
  return turns;
}

function checkTurns(key: string, turns: readonly Turn[]): Violation[] {
  const found: Violation[] = [];
  const never = Number.POSITIVE_INFINITY;
  for (const one of turns) {
    for (const other of turns) {
      if (one === other || other.start === undefined) continue;
      const { start = never, freed = never } = one;
      if (start < other.start && other.start < freed) {
        const what = `${key}: ${other.jobId} starts at ${other.start}; ${one.jobId} holds the key from ${start} to ${freed}`;
        found.push({ count: 'overlapping', what });
      }
      if (other.start < Math.min(start, freed) && becameDueFirst(one, other)) {
        const what = `${key}: ${other.jobId} (${other.seq}) starts at ${other.start}, before ${one.jobId} (${one.seq})`;
        found.push({ count: 'outOfOrder', what });
      }
    }
  }
  return found;
}

/**
 * Whether one certainly became due before the other. The ledger does not say at which moment Redis committed, so of a
 * scheduled job and one that is due at once this much is certain: what was committed before a time is due before
 * what waits for that time, and what was decided after that time is due later. (Clocks of workers are set, those of
 * APIs are not.)
 */
function becameDueFirst(one: Turn, other: Turn): boolean {
  if (other.runAt === undefined) {
    return one.seq < other.seq && (one.runAt === undefined || one.runAt < other.decidedAt);
  }
  if (one.knownAt > other.runAt) return false;
  if (one.runAt === undefined) return true;
  return one.runAt < other.runAt || (one.runAt === other.runAt && one.seq < other.seq);
}
