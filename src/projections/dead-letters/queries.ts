import { type Kysely, type RawBuilder, type SqlBool, sql } from 'kysely';
import { type JobId, parseStreamId } from '../../domain/ids.ts';
import type { DeadLetterReason } from '../../domain/jobs/events.ts';
import type { Database } from '../database.ts';
import { groupOf } from '../projection.ts';
import { type DeadLetterRow, type LetterStatus, projection } from './table.ts';

/** What letters are chosen by: all of what is named must be so. Times are RFC 3339, of when a letter died. */
export type LetterFilter = {
  readonly ids?: readonly string[] | undefined;
  readonly type?: string | undefined;
  readonly queue?: string | undefined;
  readonly fingerprint?: string | undefined;
  readonly orderingKey?: string | undefined;
  /** Any of these hashes of ordering keys. */
  readonly lanes?: readonly string[] | undefined;
  readonly owner?: string | undefined;
  readonly reason?: DeadLetterReason | undefined;
  /** At or after. */
  readonly from?: string | undefined;
  /** Before. */
  readonly to?: string | undefined;
};

/** Where a page ends: the next one begins right behind it, in whichever direction. */
export type LetterPlace = { readonly diedAt: string; readonly id: string };

/** A dead letter as an operator sees it. Times are RFC 3339 with milliseconds. */
export type LetterView = {
  /** The job's. */
  readonly id: string;
  readonly type: string;
  readonly queue?: string;
  readonly owner?: string;
  readonly orderingKey?: string;
  readonly lane?: string;
  readonly status: LetterStatus;
  readonly reason: DeadLetterReason;
  readonly attempts: number;
  readonly deaths: number;
  readonly error: unknown;
  readonly worker?: string;
  readonly ignoredAbort: boolean;
  readonly diedAt: string;
  readonly settledAt?: string;
  readonly settledBy?: string;
  readonly settledFor?: string;
  readonly traceId?: string;
  readonly version: number;
};

/** A letter whose job a decision is to be made about, if its version is still this one. */
export type Letter = { readonly jobId: JobId; readonly version: number; readonly place: LetterPlace };

export async function findDeadLetter(db: Kysely<Database>, id: string): Promise<LetterView | undefined> {
  const row = await db.selectFrom('dead_letters_v1').selectAll().where('id', '=', id).executeTakeFirst();
  return row && view(row);
}

/** Newest first. */
export async function listDeadLetters(
  db: Kysely<Database>,
  listing: LetterFilter & {
    readonly status: LetterStatus;
    readonly before?: LetterPlace | undefined;
    readonly limit: number;
  },
): Promise<LetterView[]> {
  const { before, limit, status, ...filter } = listing;
  let query = db.selectFrom('dead_letters_v1').selectAll().where('status', '=', status).where(chosen(filter));
  if (before) query = query.where(sql<SqlBool>`(died_at, id) < ${placeOf(before)}`);
  const rows = await query.orderBy('died_at', 'desc').orderBy('id', 'desc').limit(limit).execute();
  return rows.map(view);
}

/** Letters that were dead when each partition's log had come to its head, and still are; oldest first. */
export async function lettersToSettle(
  db: Kysely<Database>,
  wanted: LetterFilter,
  page: {
    readonly heads: readonly number[];
    readonly after?: LetterPlace | undefined;
    readonly limit: number;
  },
): Promise<Letter[]> {
  let query = toSettle(db, wanted, page.heads).select(['id', 'letter_version', 'died_at']);
  if (page.after) query = query.where(sql<SqlBool>`(died_at, id) > ${placeOf(page.after)}`);
  const rows = await query.orderBy('died_at').orderBy('id').limit(page.limit).execute();
  return rows.flatMap(({ id, letter_version: version, died_at }) => {
    const jobId = parseStreamId(id, 'job');
    return jobId ? [{ jobId, version, place: { diedAt: died_at.toISOString(), id } }] : [];
  });
}

/** Owners and queues of letters that have an ordering key: each of these has hashes of its own. */
export async function lanesOwners(
  db: Kysely<Database>,
  filter: LetterFilter,
): Promise<readonly { readonly owner: string | null; readonly queue: string }[]> {
  const rows = await db
    .selectFrom('dead_letters_v1')
    .select(['owner', 'queue'])
    .distinct()
    .where('lane', 'is not', null)
    .where(chosen(filter))
    .execute();
  return rows.flatMap(({ owner, queue }) => (queue === null ? [] : [{ owner, queue }]));
}

/** How many letters there are to settle. */
export async function countToSettle(
  db: Kysely<Database>,
  wanted: LetterFilter,
  heads: readonly number[],
): Promise<number> {
  const query = toSettle(db, wanted, heads).select((eb) => eb.fn.countAll<string>().as('letters'));
  return Number((await query.executeTakeFirstOrThrow()).letters);
}

/** How many letters were settled in the course of one request. */
export async function countSettledIn(db: Kysely<Database>, correlation: string): Promise<number> {
  const { letters } = await db
    .selectFrom('dead_letters_v1')
    .select((eb) => eb.fn.countAll<string>().as('letters'))
    .where('settled_in', '=', correlation)
    .executeTakeFirstOrThrow();
  return Number(letters);
}

/** Whether the read model holds every event up to each partition's head. */
export async function lettersHold(db: Kysely<Database>, heads: readonly number[]): Promise<boolean> {
  const rows = await db
    .selectFrom('checkpoints')
    .select(['partition', 'seq'])
    .where('group_name', '=', groupOf(projection))
    .execute();
  const reached = new Map(rows.map(({ partition, seq }) => [partition, seq]));
  return heads.every((head, partition) => (reached.get(partition) ?? 0) >= head);
}

/** What was dead by a clock may be otherwise by another; by the log's order it is one thing. */
function toSettle(db: Kysely<Database>, wanted: LetterFilter, heads: readonly number[]) {
  return db
    .selectFrom('dead_letters_v1')
    .where('status', '=', 'dead')
    .where(sql<SqlBool>`seq <= (${[...heads]}::bigint[])[partition + 1]`)
    .where(chosen(wanted));
}

function chosen(filter: LetterFilter): RawBuilder<SqlBool> {
  const conditions = [sql<SqlBool>`true`];
  const { ids, type, queue, fingerprint, orderingKey, lanes, owner, reason, from, to } = filter;
  if (ids !== undefined) conditions.push(sql`id = ANY(${[...ids]})`);
  if (type !== undefined) conditions.push(sql`type = ${type}`);
  if (queue !== undefined) conditions.push(sql`queue = ${queue}`);
  if (fingerprint !== undefined) conditions.push(sql`fingerprint = ${fingerprint}`);
  if (orderingKey !== undefined) conditions.push(sql`ordering_key = ${orderingKey}`);
  if (lanes !== undefined) conditions.push(sql`lane = ANY(${[...lanes]})`);
  if (owner !== undefined) conditions.push(sql`owner = ${owner}`);
  if (reason !== undefined) conditions.push(sql`reason = ${reason}`);
  if (from !== undefined) conditions.push(sql`died_at >= ${new Date(from)}`);
  if (to !== undefined) conditions.push(sql`died_at < ${new Date(to)}`);
  return sql.join(conditions, sql` AND `);
}

function placeOf({ diedAt, id }: LetterPlace): RawBuilder<unknown> {
  return sql`(${new Date(diedAt)}, ${id})`;
}

function view(row: DeadLetterRow): LetterView {
  return {
    id: row.id,
    type: row.type,
    ...(row.queue === null ? {} : { queue: row.queue }),
    ...(row.owner === null ? {} : { owner: row.owner }),
    ...(row.ordering_key === null ? {} : { orderingKey: row.ordering_key }),
    ...(row.lane === null ? {} : { lane: row.lane }),
    status: row.status,
    reason: row.reason,
    attempts: row.attempts,
    deaths: row.deaths,
    error: JSON.parse(row.error) as unknown,
    ...(row.worker === null ? {} : { worker: row.worker }),
    ignoredAbort: row.ignored_abort,
    diedAt: row.died_at.toISOString(),
    ...(row.settled_at === null ? {} : { settledAt: row.settled_at.toISOString() }),
    ...(row.settled_by === null ? {} : { settledBy: row.settled_by }),
    ...(row.settled_for === null ? {} : { settledFor: row.settled_for }),
    ...(row.trace_id === null ? {} : { traceId: row.trace_id }),
    version: row.version,
  };
}
