import type { Redis } from 'ioredis';
import { type Kysely, sql } from 'kysely';
import { mintedIn, mintKey } from '../../commands/mint.ts';
import type { EventMeta } from '../../domain/event.ts';
import { parseStreamId, type StreamId } from '../../domain/ids.ts';
import { jobFold } from '../../domain/jobs/state.ts';
import { readLedger } from '../../eventstore/ledger-read.ts';
import { encodeLogEntry, LOG_FIELD } from '../../eventstore/log.ts';
import type { PartitionKeys } from '../../eventstore/partitions.ts';
import type { LedgerTables } from '../../eventstore/tables.ts';
import type { Work } from '../../eventstore/types.ts';
import { encodeTimer, encodeWork, KEYED_PRIORITY, WORK_FIELD } from '../../eventstore/work-text.ts';
import { readCursor } from '../reactor-cursor.ts';
import { type LedgerSource, nextTicks, type UnfinishedJob, unfinishedJobs } from './unfinished.ts';

/** So much of the log is given back: restarts and readers near its end compare with it. */
const LOG_EVENTS = 1_000;
const WRITES = 500;

export type Restored = {
  readonly jobs: number;
  readonly schedules: number;
  readonly claims: number;
};

/**
 * Makes a partition in Redis anew from the ledger: the end of its log, the states, work, timers and ordering keys of
 * unfinished jobs, ticks, claims, cursors of reactors. Nothing of it may be there. All but `meta`: as long as that is not
 * there nobody trusts the partition.
 */
export async function restorePartition(
  { db, archives, redis }: LedgerSource & { readonly redis: Redis },
  all: readonly PartitionKeys[],
  partition: number,
  to: {
    readonly seq: number;
    readonly recovery: number;
    readonly retentionMs: number;
    readonly reactors: readonly string[];
    /** Throws where somebody else may have made the partition anew meanwhile. */
    readonly beforeWriting: () => Promise<void>;
  },
): Promise<Restored> {
  const keys = all[partition];
  if (!keys) throw new Error(`there is no partition ${partition}`);
  const writes = pipelined(redis, to.beforeWriting);
  const log = await readLedger(
    db,
    { partition, after: Math.max(0, to.seq - LOG_EVENTS), upTo: to.seq, limit: LOG_EVENTS },
    archives,
  );
  for (const event of log) {
    const text = encodeLogEntry(event.streamId, event.version, event).join('');
    await writes.add(['XADD', keys.log, `${event.epoch}-${event.seq}`, LOG_FIELD, text]);
  }
  await writes.send();

  let [jobs, schedules] = [0, 0];
  const waiting: UnfinishedJob[] = [];
  for await (const job of unfinishedJobs({ db, archives }, partition)) {
    const { jobId, state } = job;
    const { rows } = await sql<{ version: number; seq: number }>`
      SELECT version, seq FROM stream_heads WHERE stream_id = ${jobId}`.execute(db);
    const head = rows[0];
    if (!head) continue;
    const text = `${head.version} ${head.seq} ${to.recovery} ${jobFold.fold} ${jobFold.kept?.write(state)}`;
    await writes.add(['SET', keys.state(jobId), text]);
    waiting.push({ ...job, state: withoutPayload(state) });
    jobs++;
  }
  const [seconds] = await redis.time();
  const now = Number(seconds) * 1_000;
  for (const command of workOf(keys, waiting, now)) await writes.add(command);

  for await (const { scheduleId, at } of nextTicks({ db, archives }, partition)) {
    await writes.add(['ZADD', keys.ticks, at, scheduleId]);
    schedules++;
  }
  let claims = 0;
  for await (const command of claimsOf(db, all, partition, now - to.retentionMs)) {
    await writes.add(command);
    claims++;
  }
  for (const reactor of to.reactors) {
    const cursor = await cursorOf(db, partition, reactor);
    if (cursor) await writes.add(['SET', keys.cursor(reactor), cursor]);
  }
  await writes.send();
  return { jobs, schedules, claims };
}

/** Only where a job is to wait is worked out of it: payloads of all of them at once would fill the process. */
function withoutPayload(state: UnfinishedJob['state']): UnfinishedJob['state'] {
  return { ...state, spec: { ...state.spec, payload: null } };
}

type Command = readonly [name: string, ...args: (string | number)[]];

/**
 * Where each of the jobs waits: in the order in which they became due, ties by position. What was due by `now` (ms since 1970,
 * by Redis' clock) waits among the others, and not for a timer, behind which all others would come first: no event says
 * whether its timer was promoted.
 */
export function* workOf(
  keys: PartitionKeys,
  jobs: readonly UnfinishedJob[],
  now: number,
): Generator<Command> {
  const inOrder = jobs.toSorted((a, b) => a.state.dueAt - b.state.dueAt || a.dueSeq - b.dueSeq);
  const holders = new Map<string, UnfinishedJob>();
  for (const job of inOrder) {
    const lane = laneOf(job);
    if (lane !== undefined && job.holds && !holders.has(lane)) holders.set(lane, job);
  }
  for (const job of inOrder) {
    const { jobId, state, dueSeq } = job;
    const lane = laneOf(job);
    const onTimer = state.phase === 'scheduled' || state.phase === 'retrying';
    if (onTimer && state.dueAt > now) {
      const at = String(dueSeq).padStart(14, '0');
      yield ['ZADD', keys.timers, state.dueAt, `${at} ${jobId}`];
      yield ['HSET', keys.timerWork, jobId, `${at} ${encodeTimer(workIn(job))}`];
    } else if (state.phase !== 'failed') {
      if (lane !== undefined && !holders.has(lane)) holders.set(lane, job);
      if (lane === undefined || holders.get(lane) === job) yield work(keys, job);
      else yield parked(keys, job);
    }
  }
  for (const { jobId, state } of holders.values()) {
    const { queue, lane = '' } = state.spec;
    yield ['HSET', keys.blocked(queue), lane, `${jobId} ${state.dueAt}`];
  }
}

const laneOf = ({ state: { spec } }: UnfinishedJob) =>
  spec.lane === undefined ? undefined : `${spec.queue} ${spec.lane}`;

function workIn({ jobId, state, traceparent }: UnfinishedJob): Work {
  const { queue, priority, type, lane } = state.spec;
  return {
    ...{ queue, priority, type, jobId, dueAt: state.dueAt },
    ...(lane === undefined ? {} : { lane }),
    ...(traceparent === undefined ? {} : { traceparent }),
  };
}

function work(keys: PartitionKeys, job: UnfinishedJob): Command {
  const { queue, priority, lane } = job.state.spec;
  const stream = keys.work(queue, lane === undefined ? priority : KEYED_PRIORITY);
  return ['XADD', stream, '*', WORK_FIELD, encodeWork(workIn(job))];
}

function parked(keys: PartitionKeys, job: UnfinishedJob): Command {
  const { queue, lane = '' } = job.state.spec;
  return ['RPUSH', keys.parked(queue, lane), encodeWork(workIn(job))];
}

/**
 * Of the idempotency keys that were used since a time, by Redis' clock, as events have it: what was answered, at the position of the commit's last
 * event, and what was minted.
 */
async function* claimsOf(
  db: Kysely<LedgerTables>,
  all: readonly PartitionKeys[],
  partition: number,
  sinceMs: number,
): AsyncGenerator<Command> {
  const since = new Date(sinceMs);
  for (let after = 0; ; ) {
    const { rows } = await sql<{
      seq: number;
      epoch: number;
      meta: string;
      left_ms: number;
      last_seq: number;
    }>`
      SELECT l.seq, l.epoch, l.meta, (extract(epoch FROM l.recorded_at - ${since}) * 1000)::bigint AS left_ms,
        (SELECT max(o.seq) FROM ledger o WHERE o.partition = l.partition AND o.seq BETWEEN l.seq AND l.seq + 20
           AND o.correlation = l.correlation AND o.recorded_at = l.recorded_at) AS last_seq
      FROM ledger l
      WHERE l.partition = ${partition} AND l.seq > ${after} AND l.recorded_at > ${since}
        AND l.meta LIKE '%,"claim":{%'
      ORDER BY l.seq LIMIT ${WRITES}`.execute(db);
    for (const { epoch, seq, meta, left_ms, last_seq } of rows) {
      const { claim }: Pick<EventMeta, 'claim'> = JSON.parse(meta);
      if (!claim) continue;
      const { key, fingerprint, answer } = claim;
      const position = `${fingerprint} ${epoch} ${last_seq ?? seq}`;
      const lasts = ['PX', Math.max(1, Number(left_ms))];
      const own = all[partition]?.claim(key);
      if (own) yield ['SET', own, `${position} ${answer}`, ...lasts];
      const minted = idIn(answer);
      const first = all[mintedIn(key, all.length)]?.claim(mintKey(key));
      if (minted && first) yield ['SET', first, `${position} ${minted}`, ...lasts];
    }
    const last = rows.at(-1);
    if (rows.length < WRITES || !last) return;
    after = Number(last.seq);
  }
}

/** What a command answered with that made something. */
function idIn(answer: string): StreamId | undefined {
  const body: unknown = JSON.parse(answer);
  const id = typeof body === 'object' && body !== null && 'id' in body ? body.id : undefined;
  return typeof id === 'string' ? parseStreamId(id) : undefined;
}

/**
 * Where the reactor stood when it last did something: what came since it sees again, and finds nothing to do. But where an
 * operator has moved its cursor since then, there: what he had it pass over stays passed over.
 */
async function cursorOf(
  db: Kysely<LedgerTables>,
  partition: number,
  reactor: string,
): Promise<string | undefined> {
  const moved = await lastMove(db, partition, reactor);
  const { rows } = await sql<Cursor>`
    SELECT epoch, seq, event_id FROM ledger WHERE partition = ${partition} AND seq = (
      SELECT max((meta::json -> 'reaction' ->> 'seq')::bigint) FROM ledger
      WHERE partition = ${partition} AND type = 'JobEnqueued' AND meta LIKE ${`%"reaction":{"reactor":"${reactor}"%`}
        AND (epoch, seq) > (${moved?.head_epoch ?? -1}::int, ${moved?.head_seq ?? 0}::bigint))`.execute(db);
  const at = rows[0] ?? (moved && (await lastUpTo(db, partition, readCursor(moved.to_cursor).seq)));
  return at && `${at.epoch} ${at.seq} ${at.event_id}`;
}

type Cursor = { epoch: number; seq: number; event_id: string };

async function lastMove(db: Kysely<LedgerTables>, partition: number, reactor: string) {
  return db
    .selectFrom('cursor_moves')
    .select(['to_cursor', 'head_epoch', 'head_seq'])
    .where('group_name', '=', reactor)
    .where('partition', '=', partition)
    .where('head_seq', 'is not', null)
    .orderBy('id', 'desc')
    .limit(1)
    .executeTakeFirst();
}

/** The event at a seq, or, where that was lost, the last before it. */
async function lastUpTo(
  db: Kysely<LedgerTables>,
  partition: number,
  seq: number,
): Promise<Cursor | undefined> {
  return db
    .selectFrom('ledger')
    .select(['epoch', 'seq', 'event_id'])
    .where('partition', '=', partition)
    .where('seq', '<=', seq)
    .orderBy('seq', 'desc')
    .limit(1)
    .executeTakeFirst();
}

/** Sends commands some hundreds at a time, and throws what any of them answers with. */
function pipelined(redis: Redis, beforeWriting: () => Promise<void>) {
  let waiting: Command[] = [];
  async function send(): Promise<void> {
    if (waiting.length === 0) return;
    const pipeline = redis.pipeline();
    for (const [name, ...args] of waiting) pipeline.call(name, ...args);
    waiting = [];
    await beforeWriting();
    for (const [error] of (await pipeline.exec()) ?? []) if (error) throw error;
  }
  return {
    async add(command: Command): Promise<void> {
      waiting.push(command);
      if (waiting.length >= WRITES) await send();
    },
    send,
  };
}
