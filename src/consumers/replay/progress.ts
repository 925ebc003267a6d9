import { type Kysely, sql } from 'kysely';
import type { JobId } from '../../domain/ids.ts';
import type { LedgerTables } from '../../eventstore/tables.ts';

/** How far a replay is in a partition: the last seq that it is done with, and what it came to until there. */
export type ReplayPosition = { readonly seq: number; readonly events: number; readonly jobs: number };

/** By partition; of one that it has not come to yet there is none. */
export async function readPositions(
  db: Kysely<LedgerTables>,
  replay: JobId,
): Promise<Map<number, ReplayPosition>> {
  const rows = await db.selectFrom('replay_positions').selectAll().where('replay', '=', replay).execute();
  return new Map(
    rows.map(({ partition, seq, events, jobs }) => [
      partition,
      { seq: Number(seq), events: Number(events), jobs: Number(jobs) },
    ]),
  );
}

/** Moves it on. Throws where it is not where this run has left it: another run of the same replay goes on. */
export async function movePosition(
  db: Kysely<LedgerTables>,
  { replay, partition }: { readonly replay: JobId; readonly partition: number },
  from: ReplayPosition | undefined,
  to: ReplayPosition,
): Promise<void> {
  const { rows } = await sql`
    INSERT INTO replay_positions (replay, partition, seq, events, jobs)
    SELECT ${replay}, ${partition}::int, ${to.seq}::bigint, ${to.events}::bigint, ${to.jobs}::bigint
    ON CONFLICT (replay, partition) DO UPDATE
      SET seq = excluded.seq, events = excluded.events, jobs = excluded.jobs
      WHERE replay_positions.seq = ${from?.seq ?? -1}::bigint
    RETURNING seq`.execute(db);
  if (rows.length === 0) throw new Error(`another run of ${replay} is in partition ${partition}`);
}
