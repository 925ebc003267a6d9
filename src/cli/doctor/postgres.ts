import { type Kysely, sql } from 'kysely';
import type { Config } from '../../config.ts';
import { type Finding, fail, ok, unknown, warn } from './finding.ts';

type Settings = ReadonlyMap<string, string>;
/** Of what an installation of one process of each role opens besides its pools: ledger, rebuilds, recovery. */
const BESIDES = 12;
const ROLES = 3;
const WAL_KEPT_BYTES = 1_073_741_824;
const SINCE_SECONDS = 300;

/** Throws what Postgres throws. */
export async function examinePostgres(db: Kysely<never>, config: Config): Promise<Finding[]> {
  const settings = await settingsOf(db);
  return [
    version(settings),
    await role(db),
    ...durability(settings),
    await encoding(db),
    await collation(db),
    await connections(db, settings, config),
    await transactions(db),
    await wal(db, settings),
    await standbys(db, settings),
    await wraparound(db, settings),
    unknown(
      'disk',
      'Postgres does not tell how much room its disk has',
      'watch it where it runs: a full disk stops the ledger, and then Redis fills up',
    ),
  ];
}

async function settingsOf(db: Kysely<never>): Promise<Settings> {
  const { rows } = await sql<{ name: string; setting: string }>`
    SELECT name, setting FROM pg_settings WHERE name IN ('server_version', 'server_version_num', 'fsync',
      'synchronous_commit', 'full_page_writes', 'max_connections', 'superuser_reserved_connections', 'archive_mode',
      'synchronous_standby_names', 'autovacuum', 'wal_level')`.execute(db);
  return new Map(rows.map(({ name, setting }) => [name, setting]));
}

function version(settings: Settings): Finding {
  const [text = '?', number] = [settings.get('server_version'), Number(settings.get('server_version_num'))];
  if (number >= 150_000) return ok('version', text);
  return fail('version', text, 'use Postgres 15 or newer: older ones are not tested');
}

async function role(db: Kysely<never>): Promise<Finding> {
  const { rows } = await sql<{ replica: boolean; readonly: string }>`
    SELECT pg_is_in_recovery() AS replica, current_setting('default_transaction_read_only') AS readonly`.execute(
    db,
  );
  const [row] = rows;
  if (row?.replica) return fail('role', 'a replica', 'let DATABASE_URL lead to the primary');
  if (row?.readonly === 'on')
    return fail('role', 'read-only by default', 'ALTER DATABASE … RESET default_transaction_read_only');
  return ok('role', 'primary');
}

function durability(settings: Settings): Finding[] {
  const commit = settings.get('synchronous_commit') ?? '?';
  const switches = ['fsync', 'full_page_writes'].map((name) =>
    settings.get(name) === 'on'
      ? ok(name, 'on')
      : fail(
          name,
          'off: a crash of the machine may break the database',
          `ALTER SYSTEM SET ${name} = on, and restart`,
        ),
  );
  const mend = 'ALTER SYSTEM (or DATABASE, or ROLE) SET synchronous_commit = on, and reload';
  return [
    ...switches,
    commit === 'off'
      ? fail(
          'synchronous_commit',
          'off: what was acknowledged with Durability: ledger may be lost in a crash',
          mend,
        )
      : commit === 'local' && settings.get('synchronous_standby_names')
        ? warn(
            'synchronous_commit',
            'local, though there are synchronous standbys: a failover may lose commits',
            mend,
          )
        : ok('synchronous_commit', commit),
  ];
}

async function encoding(db: Kysely<never>): Promise<Finding> {
  const { rows } = await sql<{
    encoding: string;
  }>`SELECT current_setting('server_encoding') AS encoding`.execute(db);
  const found = rows[0]?.encoding ?? '?';
  if (found === 'UTF8') return ok('encoding', found);
  return fail(
    'encoding',
    found,
    "events are UTF-8: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0, and move there",
  );
}

async function collation(db: Kysely<never>): Promise<Finding> {
  const { rows } = await sql<{ name: string | null; was: string | null; is: string | null }>`
    SELECT datcollate AS name, datcollversion AS was, pg_database_collation_actual_version(oid) AS is
    FROM pg_database WHERE datname = current_database()`.execute(db);
  const { name = '?', was, is } = rows[0] ?? {};
  if (!was || !is || was === is) return ok('collation', name ?? '?');
  return warn(
    'collation',
    `${name} was version ${was} when indexes were built, and is ${is} now`,
    'REINDEX DATABASE, then ALTER DATABASE … REFRESH COLLATION VERSION',
  );
}

async function connections(
  db: Kysely<never>,
  settings: Settings,
  { DATABASE_POOL }: Config,
): Promise<Finding> {
  const { rows } = await sql<{ used: number }>`
    SELECT count(*) AS used FROM pg_stat_activity WHERE backend_type = 'client backend'`.execute(db);
  const used = rows[0]?.used ?? 0;
  const most =
    Number(settings.get('max_connections')) - Number(settings.get('superuser_reserved_connections') ?? 0);
  const need = DATABASE_POOL * ROLES + BESIDES;
  const said = `${used} of ${most} in use; a process of each role may open ${need}`;
  const mend = 'raise max_connections, lower DATABASE_POOL, or put a pooler in front of what else connects';
  if (most < need) return fail('connections', said, mend);
  return used > most * 0.8 ? warn('connections', said, mend) : ok('connections', said);
}

/** One that nobody ends keeps vacuum from taking anything away, in all tables. */
async function transactions(db: Kysely<never>): Promise<Finding> {
  const { rows } = await sql<{ name: string; pid: number; seconds: number }>`
    SELECT coalesce(nullif(application_name, ''), usename, '?') AS name, pid,
      extract(epoch FROM now() - xact_start)::float8 AS seconds
    FROM pg_stat_activity WHERE backend_type = 'client backend' AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
    ORDER BY xact_start LIMIT 1`.execute(db);
  const [oldest] = rows;
  if (!oldest || oldest.seconds < SINCE_SECONDS) return ok('transactions', 'none is old');
  const { name, pid, seconds } = oldest;
  return warn(
    'transactions',
    `${name} (pid ${pid}) has one open for ${Math.round(seconds)} s`,
    `find out what it waits for; SELECT pg_terminate_backend(${pid}) ends it`,
  );
}

async function wal(db: Kysely<never>, settings: Settings): Promise<Finding> {
  const { rows } = await sql<{ slot: string; status: string | null; kept: number }>`
    SELECT slot_name AS slot, wal_status AS status, pg_wal_lsn_diff(
      CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END, restart_lsn
    )::float8 AS kept
    FROM pg_replication_slots WHERE NOT active ORDER BY kept DESC NULLS LAST LIMIT 1`.execute(db);
  const [slot] = rows;
  if (slot && (slot.kept > WAL_KEPT_BYTES || slot.status === 'lost')) {
    return warn(
      'wal',
      `the slot ${slot.slot} has no reader and keeps ${Math.round(slot.kept / 1_048_576)} MiB`,
      'bring its reader back, or SELECT pg_drop_replication_slot: it fills the disk',
    );
  }
  if (settings.get('archive_mode') === 'off') {
    return warn(
      'wal',
      'not archived: a restore goes back to the last base backup',
      'archive_mode and archive_command, or a tool that does both: docs/runbooks/backup-and-restore.md',
    );
  }
  const archiver = await sql<{ failing: boolean }>`
    SELECT coalesce(last_failed_time > coalesce(last_archived_time, '-infinity'), false) AS failing
    FROM pg_stat_archiver`.execute(db);
  return archiver.rows[0]?.failing
    ? fail(
        'wal',
        'it can’t be archived, and stays on the disk until it is full',
        "look at Postgres' log for archive_command",
      )
    : ok('wal', 'archived');
}

async function standbys(db: Kysely<never>, settings: Settings): Promise<Finding> {
  const { rows } = await sql<{ standbys: number; lag: number | null }>`
    SELECT count(*) AS standbys, max(extract(epoch FROM replay_lag))::float8 AS lag FROM pg_stat_replication`.execute(
    db,
  );
  const { standbys = 0, lag } = rows[0] ?? {};
  const wanted = settings.get('synchronous_standby_names');
  if (wanted && standbys === 0) {
    return fail(
      'standbys',
      `none, and commits wait for ${wanted}`,
      'bring it back, or take it out of synchronous_standby_names',
    );
  }
  const behind = lag ? `, ${lag.toFixed(1)} s behind` : '';
  return ok(
    'standbys',
    standbys === 0 ? 'none: what Postgres loses comes from backups' : `${standbys}${behind}`,
  );
}

async function wraparound(db: Kysely<never>, settings: Settings): Promise<Finding> {
  if (settings.get('autovacuum') !== 'on') {
    return fail(
      'vacuum',
      'autovacuum is off: tables grow, and one day Postgres stops',
      'ALTER SYSTEM SET autovacuum = on, and reload',
    );
  }
  const { rows } = await sql<{ age: number }>`
    SELECT age(datfrozenxid) AS age FROM pg_database WHERE datname = current_database()`.execute(db);
  const age = rows[0]?.age ?? 0;
  const said = `transaction ids: ${Math.round(age / 1e6)} of 2,147 million`;
  return age > 1_000_000_000
    ? fail('vacuum', said, 'VACUUM FREEZE, and find what keeps it back')
    : ok('vacuum', said);
}
