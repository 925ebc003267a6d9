import type { Kysely, Selectable } from 'kysely';
import type { AccountEvent } from '../domain/accounts.ts';
import type { AccountId } from '../domain/ids.ts';
import type { Archives } from '../eventstore/archive/archives.ts';
import { readStream } from '../eventstore/ledger-read.ts';
import type { Database } from './database.ts';
import type { Projection } from './projection.ts';

/** Accounts that were erased. Of the persons nothing. */
export type ErasuresTable = {
  /** The account's. */
  id: string;
  job_id: string;
  /** Where an operator did it. */
  reason: string | null;
  erased_at: Date;
  completed_at: Date | null;
  sessions: number | null;
  jobs: number | null;
  schedules: number | null;
  exports: number | null;
  partition: number;
  /** Of `AccountErased`: once the ledger holds that, the person's key may go. */
  seq: number;
  version: number;
};

export type ErasureRow = Selectable<ErasuresTable>;
type Event = Extract<AccountEvent, { type: 'AccountErased' | 'AccountErasureCompleted' }>;

export const projection: Projection<ErasureRow, Event> = {
  name: 'erasures',
  version: 1,
  table: 'erasures_v1',
  columns: {
    id: 'text',
    job_id: 'text',
    reason: 'text',
    erased_at: 'timestamptz',
    completed_at: 'timestamptz',
    sessions: 'int',
    jobs: 'int',
    schedules: 'int',
    exports: 'int',
    partition: 'int',
    seq: 'bigint',
    version: 'int',
  },
  handles: { AccountErased: true, AccountErasureCompleted: true },
  key: (event) => event.streamId,
  reduce(row, event) {
    const { version, partition, seq, meta } = event;
    if (event.type === 'AccountErased') {
      return {
        id: event.streamId,
        job_id: event.data.jobId,
        reason: meta.reason ?? null,
        erased_at: new Date(meta.at),
        completed_at: null,
        sessions: null,
        jobs: null,
        schedules: null,
        exports: null,
        partition,
        seq,
        version,
      };
    }
    if (!row) throw new Error('an erasure was completed that was never begun');
    return { ...row, ...event.data, completed_at: new Date(meta.at), version };
  },
};

/**
 * Whether a person was erased. The read model says so at once; where it lags behind, or is made anew, the ledger does, which
 * holds the event before a key is deleted.
 */
export async function wasErased(
  db: Kysely<Database>,
  accountId: AccountId,
  archives: Archives,
): Promise<boolean> {
  const row = await db.selectFrom('erasures_v1').select('id').where('id', '=', accountId).executeTakeFirst();
  if (row) return true;
  const events = await readStream(db, accountId, {}, archives);
  return events.some(({ type }) => type === 'AccountErased');
}

/** Exports of those who were erased: their files are gone, or to go. By id, after one. */
export async function exportsOfErased(
  db: Kysely<Database>,
  { after, limit }: { readonly after: string; readonly limit: number },
): Promise<string[]> {
  const rows = await db
    .selectFrom('exports_v1')
    .innerJoin('erasures_v1', 'erasures_v1.id', 'exports_v1.owner')
    .select('exports_v1.id')
    .where('exports_v1.id', '>', after)
    .orderBy('exports_v1.id')
    .limit(limit)
    .execute();
  return rows.map(({ id }) => id);
}

/** Which of these accounts were erased. */
export async function erasedAmong(
  db: Kysely<Database>,
  accounts: readonly string[],
): Promise<ReadonlySet<string>> {
  if (accounts.length === 0) return new Set();
  const rows = await db
    .selectFrom('erasures_v1')
    .select('id')
    .where('id', 'in', [...accounts])
    .execute();
  return new Set(rows.map(({ id }) => id));
}

/** Accounts that were erased, the newest first. */
export async function listErasures(
  db: Kysely<Database>,
  { limit }: { readonly limit: number },
): Promise<ErasureRow[]> {
  return db
    .selectFrom('erasures_v1')
    .selectAll()
    .orderBy('erased_at', 'desc')
    .orderBy('id', 'desc')
    .limit(limit)
    .execute();
}
