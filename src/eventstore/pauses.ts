import { type Kysely, sql } from 'kysely';
import type { LedgerTables } from './tables.ts';

/** An ordered group that an operator has paused. */
export type GroupPause = {
  readonly group: string;
  readonly since: Date;
  readonly by: string;
  readonly reason: string;
};

/** The groups that are paused now, by name. In Postgres, so that it outlives Redis. */
export async function pausedGroups(db: Kysely<LedgerTables>): Promise<ReadonlyMap<string, GroupPause>> {
  const rows = await db
    .selectFrom('group_pauses')
    .select(['group_name as group', 'paused_at as since', 'paused_by as by', 'paused_for as reason'])
    .where('resumed_at', 'is', null)
    .execute();
  return new Map(rows.map((row) => [row.group, row]));
}

type Asked = {
  readonly group: string;
  /** Id of its record: the same one again changes nothing, whatever has happened since. */
  readonly operation: string;
  readonly by: string;
  readonly reason: string;
};

/** Nothing of the group is applied from now on. One that is paused stays paused as it was. */
export async function pauseGroup(db: Kysely<LedgerTables>, asked: Asked): Promise<void> {
  await sql`
    INSERT INTO group_pauses (group_name, operation, paused_by, paused_for)
    VALUES (${asked.group}, ${asked.operation}, ${asked.by}, ${asked.reason})
    ON CONFLICT DO NOTHING`.execute(db);
}

/** The group goes on where it stands. One that is not paused goes on as it does. */
export async function resumeGroup(db: Kysely<LedgerTables>, asked: Asked): Promise<void> {
  await sql`
    UPDATE group_pauses
    SET resumed_at = now(), resumed_by = ${asked.by}, resumed_for = ${asked.reason}, resume_operation = ${asked.operation}
    WHERE group_name = ${asked.group} AND resumed_at IS NULL
      AND NOT EXISTS (SELECT FROM group_pauses WHERE resume_operation = ${asked.operation})`.execute(db);
}

/** How often the group was paused and resumed. */
export async function pauseChanges(db: Kysely<LedgerTables>, group: string): Promise<number> {
  const { rows } = await sql<{ changes: number }>`
    SELECT count(*) + count(resumed_at) AS changes FROM group_pauses WHERE group_name = ${group}`.execute(db);
  return rows[0]?.changes ?? 0;
}
