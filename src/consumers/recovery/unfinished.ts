import { type Kysely, sql } from 'kysely';
import { codec } from '../../domain/events.ts';
import { type JobId, kindOf, type ScheduleId, type StreamId } from '../../domain/ids.ts';
import type { JobEvent } from '../../domain/jobs/events.ts';
import { holdsItsLane, type Job, jobFold } from '../../domain/jobs/state.ts';
import { scheduleFold } from '../../domain/schedules.ts';
import type { Archives } from '../../eventstore/archive/archives.ts';
import { archivedTo } from '../../eventstore/archive/plan.ts';
import { readLedger, readStream } from '../../eventstore/ledger-read.ts';
import type { LedgerTables } from '../../eventstore/tables.ts';
import type { FoldEvent } from '../../eventstore/types.ts';

const PAGE = 500;
/** After one of these as its last event a job is over. */
const OVER: readonly string[] = ['JobCompleted', 'JobCancelled', 'JobDiscarded'];

/** The ledger, and where its old parts lie. */
export type LedgerSource = { readonly db: Kysely<LedgerTables>; readonly archives?: Archives | undefined };

/** A job that is not over: it waits, runs, is to be tried again, or is dead and holds its ordering key. */
export type UnfinishedJob = {
  readonly jobId: JobId;
  readonly state: Extract<Job, { spec: object }>;
  /** Its key is held: it has begun since it was free of it. */
  readonly holds: boolean;
  /** Seq of the event by which it became due. */
  readonly dueSeq: number;
  readonly traceparent?: string;
};

/** The jobs of a partition that are not over, by their ids. */
export async function* unfinishedJobs(
  source: LedgerSource,
  partition: number,
): AsyncGenerator<UnfinishedJob> {
  for await (const jobId of streamsWhoseLastIsNot(source, 'job', partition, OVER)) {
    const job = await foldJob(source, jobId as JobId);
    if (job) yield job;
  }
}

/** Schedules of a partition that were not deleted, and when they tick next (ms since 1970). */
export async function* nextTicks(
  source: LedgerSource,
  partition: number,
): AsyncGenerator<{ readonly scheduleId: ScheduleId; readonly at: number }> {
  for await (const streamId of streamsWhoseLastIsNot(source, 'sched', partition, ['ScheduleDeleted'])) {
    let state = scheduleFold.initial;
    for (const event of await readStream(source.db, streamId, {}, source.archives)) {
      const { type, data, meta } = codec.decode(event);
      state = scheduleFold.evolve(
        state,
        foldable<Parameters<typeof scheduleFold.evolve>[1]>(type, data, meta),
      );
    }
    if (state.phase !== 'active' || state.nextAt === undefined) continue;
    yield { scheduleId: streamId as ScheduleId, at: state.nextAt };
  }
}

async function foldJob({ db, archives }: LedgerSource, jobId: JobId): Promise<UnfinishedJob | undefined> {
  let state: Job = jobFold.initial;
  let [holds, dueSeq] = [false, 0];
  let [traceparent, last]: (string | undefined)[] = [];
  for (const event of await readStream(db, jobId, {}, archives)) {
    const { type, data, meta } = codec.decode(event);
    const before = dueAtOf(state);
    state = jobFold.evolve(
      state,
      foldable<JobEvent & Parameters<typeof jobFold.evolve>[1]>(type, data, meta),
    );
    if (dueAtOf(state) !== before) dueSeq = event.seq;
    if (type === 'JobStarted') holds = true;
    if (!holdsItsLane(state)) holds = false;
    traceparent = meta.traceparent ?? traceparent;
    last = type;
  }
  if (!('spec' in state) || OVER.includes(last ?? '')) return undefined;
  return { jobId, state, holds, dueSeq, ...(traceparent === undefined ? {} : { traceparent }) };
}

const dueAtOf = (state: Job) => ('spec' in state ? state.dueAt : undefined);

/** A stream's kind says which events it has, and the caller which fold goes with the kind. */
function foldable<E>(
  type: string,
  data: unknown,
  { at, owner, correlation }: Omit<FoldEvent, 'type' | 'data'>,
): E {
  return { type, data, at, correlation, ...(owner === undefined ? {} : { owner }) } as E;
}

/**
 * Of the part of the ledger that lies in files, all of it is read; of the rest, the last event of each stream. How far the
 * files go is asked once: what is in both parts, or goes from one to the other meanwhile, is found once. What has left the
 * table since is given unseen.
 */
async function* streamsWhoseLastIsNot(
  source: LedgerSource,
  kind: 'job' | 'sched',
  partition: number,
  types: readonly string[],
): AsyncGenerator<StreamId> {
  const archived = await archivedTo(source.db, partition);
  yield* archivedStreams(source, kind, partition, types, archived);
  const from = `${kind}-${partition.toString(36).padStart(2, '0')}`;
  for (let after = from; ; ) {
    const { rows } = await sql<{ stream_id: StreamId; seq: number; type: string | null }>`
      SELECT h.stream_id, h.seq, l.type FROM stream_heads h
      LEFT JOIN ledger l ON l.stream_id = h.stream_id AND l.version = h.version
      WHERE h.stream_id > ${after} AND h.stream_id < ${`${from}~`}
      ORDER BY h.stream_id LIMIT ${PAGE}`.execute(source.db);
    for (const { stream_id, seq, type } of rows) {
      if (seq > archived && !types.includes(type ?? '')) yield stream_id;
    }
    const last = rows.at(-1)?.stream_id;
    if (rows.length < PAGE || last === undefined) return;
    after = last;
  }
}

async function* archivedStreams(
  { db, archives }: LedgerSource,
  kind: 'job' | 'sched',
  partition: number,
  types: readonly string[],
  upTo: number,
): AsyncGenerator<StreamId> {
  for (let after = 0; after < upTo; ) {
    const events = await readLedger(db, { partition, after, upTo, limit: PAGE }, archives);
    after = events.at(-1)?.seq ?? upTo;
    const open = events.filter((event) => kindOf(event.streamId) === kind && !types.includes(event.type));
    if (open.length === 0) continue;
    const heads = await db
      .selectFrom('stream_heads')
      .select(['stream_id', 'version'])
      .where('stream_id', 'in', [...new Set(open.map(({ streamId }) => streamId))])
      .execute();
    const versions = new Map(heads.map(({ stream_id, version }) => [stream_id, version]));
    for (const { streamId, version } of open) if (versions.get(streamId) === version) yield streamId;
  }
}
