import { type Kysely, sql } from 'kysely';
import type { Config } from '../../config.ts';
import { openDatabase } from '../../eventstore/postgres.ts';
import { type Finding, fail, messageOf, ok, warn } from './finding.ts';

/** The replicas that queries may go to. None that is away fails anything: the primary answers then. */
export async function examineReplicas({ DATABASE_REPLICA_URLS, REPLICA_LAG_MS }: Config): Promise<Finding[]> {
  return Promise.all(DATABASE_REPLICA_URLS.map((url) => examine(url, REPLICA_LAG_MS)));
}

async function examine(url: string, mostLagMs: number): Promise<Finding> {
  const name = new URL(url).host;
  const db: Kysely<never> = openDatabase({ url, max: 1, applicationName: 'millrace-doctor' });
  try {
    const { rows } = await sql<{ replica: boolean; behind: number | null }>`
      SELECT pg_is_in_recovery() AS replica, CASE
        WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
        ELSE (extract(epoch FROM now() - pg_last_xact_replay_timestamp()) * 1000)::float8
      END AS behind`.execute(db);
    const { replica, behind } = rows[0] ?? { replica: false, behind: null };
    if (!replica)
      return fail(
        name,
        'it is no replica',
        'take it out of DATABASE_REPLICA_URLS: what it holds is not ours',
      );
    if (behind === null)
      return warn(name, 'it has replayed nothing yet', 'look whether it follows the primary');
    const said = `${Math.round(behind)} ms behind`;
    if (behind <= mostLagMs) return ok(name, said);
    return warn(name, `${said}, more than REPLICA_LAG_MS`, 'queries go to the primary until it is nearer');
  } catch (error) {
    return warn(name, messageOf(error), 'queries go to the primary until it is back');
  } finally {
    await db.destroy();
  }
}
