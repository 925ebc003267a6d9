import { type RawBuilder, type SqlBool, sql } from 'kysely';

/** Where a page ends: the next one begins with what is older, or as old with a lower id. */
export type Before = { readonly createdAt: string; readonly id: string };

/** What lists of things with an owner can be narrowed by. Times are RFC 3339. */
export type Listing<Status extends string> = {
  /** Absent: everybody's, for an operator. */
  readonly owner?: string | undefined;
  readonly status?: Status | undefined;
  /** Created at or after. */
  readonly from?: string | undefined;
  /** Created before. */
  readonly to?: string | undefined;
  /** The last item of the page before. */
  readonly before?: Before | undefined;
  readonly limit: number;
};

/**
 * The condition that a listing puts on a table with the columns owner, status, created_at and id. A page is
 * found by its predecessor's last item, not by a count: inserts neither shift nor repeat anything.
 */
export function within(listing: Listing<string>): RawBuilder<SqlBool> {
  const { owner, status, from, to, before } = listing;
  const conditions = [sql<SqlBool>`true`];
  if (owner !== undefined) conditions.push(sql`owner = ${owner}`);
  if (status !== undefined) conditions.push(sql`status = ${status}`);
  if (from !== undefined) conditions.push(sql`created_at >= ${new Date(from)}`);
  if (to !== undefined) conditions.push(sql`created_at < ${new Date(to)}`);
  if (before) conditions.push(sql`(created_at, id) < (${new Date(before.createdAt)}, ${before.id})`);
  return sql.join(conditions, sql` AND `);
}

/** The times and the error of a row, present only where there are any. */
export function present(row: { error: string | null; started_at: Date | null; finished_at: Date | null }) {
  return {
    ...(row.error === null ? {} : { error: JSON.parse(row.error) as unknown }),
    ...(row.started_at ? { startedAt: row.started_at.toISOString() } : {}),
    ...(row.finished_at ? { finishedAt: row.finished_at.toISOString() } : {}),
  };
}
