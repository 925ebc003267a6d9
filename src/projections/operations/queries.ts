import type { Kysely } from 'kysely';
import type { Database } from '../database.ts';
import { type Before, within } from '../listing.ts';
import type { OperationRow } from './table.ts';

/** What an operator did. Times are RFC 3339 with milliseconds. */
export type OperationView = {
  readonly id: string;
  readonly operation: string;
  readonly target: string;
  readonly parameters: Readonly<Record<string, unknown>>;
  /** An account, or `system:cli:<user>`. */
  readonly by: string;
  readonly reason: string;
  readonly at: string;
  readonly correlationId: string;
  readonly traceId?: string;
};

export type OperationListing = {
  readonly operation?: string | undefined;
  readonly target?: string | undefined;
  readonly by?: string | undefined;
  /** At or after, RFC 3339. */
  readonly from?: string | undefined;
  /** Before. */
  readonly to?: string | undefined;
  readonly before?: Before | undefined;
  readonly limit: number;
};

/** Newest first. */
export async function listOperations(
  db: Kysely<Database>,
  listing: OperationListing,
): Promise<OperationView[]> {
  const { operation, target, by, from, to, before, limit } = listing;
  let query = db.selectFrom('operations_v1').selectAll().where(within({ from, to, before, limit }));
  if (operation !== undefined) query = query.where('operation', '=', operation);
  if (target !== undefined) query = query.where('target', '=', target);
  if (by !== undefined) query = query.where('actor', '=', by);
  const rows = await query.orderBy('created_at', 'desc').orderBy('id', 'desc').limit(limit).execute();
  return rows.map(view);
}

function view(row: OperationRow): OperationView {
  return {
    id: row.id,
    operation: row.operation,
    target: row.target,
    // What the reducer wrote.
    parameters: JSON.parse(row.parameters) as Record<string, unknown>,
    by: row.actor,
    reason: row.reason,
    at: row.created_at.toISOString(),
    correlationId: row.correlation,
    ...(row.trace_id === null ? {} : { traceId: row.trace_id }),
  };
}
