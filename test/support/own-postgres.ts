import { execFile } from 'node:child_process';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { sql } from 'kysely';
import { onTestFinished } from 'vitest';
import { childrenOf } from '../../deploy/local/processes.mjs';
import { removePostgres, startPostgres } from '../../deploy/local/servers.mjs';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { migrateToLatest } from '../../src/projections/migrate.ts';

export type OwnPostgres = {
  readonly url: string;
  /** Stops it in order. */
  stop(): Promise<void>;
  kill(): Promise<void>;
  /** Starts it again on its port, with the data it left. */
  start(): Promise<void>;
  /** Stops it where it stands, connections open, until `resume`. */
  pause(): void;
  resume(): void;
  /** Asked again when a replica has to cancel it, as it does without regard for who reads (see `follow`). */
  query<Row = unknown>(text: string): Promise<Row[]>;
  /** Stops it for as long as its data is copied. */
  save(name: string): Promise<void>;
  /** Kills it, puts a copy in place of its data, and starts it: it is set back to that time. */
  restore(name: string): Promise<void>;
};

const SETTINGS = ['fsync=off', 'full_page_writes=off', 'max_connections=60'];

/**
 * A migrated Postgres of the test's own, and streaming replicas of it.
 * @param undo is given what to do when they are no longer needed, the last one first; default: when the test is over
 */
export async function ownPostgres(
  replicas = 0,
  undo: (step: () => Promise<void>) => void = onTestFinished,
): Promise<{ primary: OwnPostgres; replicas: OwnPostgres[] }> {
  const root = await mkdtemp(join(tmpdir(), 'millrace-postgres-'));
  undo(() => rm(root, { recursive: true, force: true }));
  // Open to the user that Postgres runs as, or its data would lie elsewhere.
  await chmod(root, 0o755);
  const dir = join(root, 'primary');
  const settings = [...SETTINGS, 'wal_level=replica', 'max_wal_senders=8', 'wal_keep_size=256MB'];
  const primary = await own(dir, settings, undo);
  const db = openDatabase({ url: primary.url, max: 1, applicationName: 'test' });
  await migrateToLatest(db).finally(() => db.destroy());
  if (replicas === 0) return { primary, replicas: [] };
  // A copy of a stopped server is a base backup; the packaged binaries have no pg_basebackup.
  await primary.stop();
  const copies = await Promise.all(
    Array.from({ length: replicas }, (_, n) => copyOf(dir, join(root, `replica-${n}`))),
  );
  await primary.start();
  return {
    primary,
    replicas: await Promise.all(copies.map((copy) => own(copy, [...SETTINGS, ...follow(primary.url)], undo))),
  };
}

/** What makes a copy follow a primary, with standby.signal. Vacuuming there must never wait for a reader here. */
function follow(primaryUrl: string): string[] {
  const { hostname, port, username, password } = new URL(primaryUrl);
  const conninfo = `host=${hostname} port=${port} user=${username} password=${password}`;
  return [
    `primary_conninfo=${conninfo}`,
    'hot_standby=on',
    'max_standby_streaming_delay=0',
    'wal_retrieve_retry_interval=100ms',
  ];
}

/** @throws what it is rejected with, but for a conflict with what is replayed (SQLSTATE 40001), up to ten times */
async function again<Result>(ask: () => Promise<Result>): Promise<Result> {
  for (let conflicts = 0; ; conflicts++) {
    try {
      return await ask();
    } catch (error) {
      const isConflict = error instanceof Error && 'code' in error && error.code === '40001';
      if (!isConflict || conflicts === 10) throw error;
    }
  }
}

async function copyFolder(from: string, to: string): Promise<void> {
  await promisify(execFile)('cp', ['-a', from, to]);
}

/** With its owners and modes, as Postgres asks for; without what is true of the original alone. */
async function copyOf(dir: string, copy: string): Promise<string> {
  await copyFolder(dir, copy);
  await rm(join(copy, 'server.json'), { force: true });
  await writeFile(join(copy, 'cluster', 'data', 'standby.signal'), '');
  return copy;
}

async function own(
  dir: string,
  extra: readonly string[],
  undo: (step: () => Promise<void>) => void,
): Promise<OwnPostgres> {
  let server = await startPostgres({ dir, extra });
  const { url, port } = server;
  const data = join(dir, 'cluster', 'data');
  undo(async () => {
    await server.kill();
    await removePostgres(dir);
  });
  /** A connection's own process serves it, whatever becomes of the one that took it in. */
  const signalAll = (signal: NodeJS.Signals) => {
    for (const pid of [server.pid, ...childrenOf(server.pid)]) {
      try {
        process.kill(pid, signal);
      } catch (error) {
        // A connection that has ended since has no process any more.
        if (!(error instanceof Error && 'code' in error && error.code === 'ESRCH')) throw error;
      }
    }
  };
  return {
    url,
    stop: () => server.stop(),
    kill: () => server.kill(),
    async start() {
      server = await startPostgres({ dir, port, extra });
    },
    pause: () => signalAll('SIGSTOP'),
    resume: () => signalAll('SIGCONT'),
    async save(name) {
      await server.stop();
      await copyFolder(data, join(dir, name));
      server = await startPostgres({ dir, port, extra });
    },
    async restore(name) {
      await server.kill();
      await rm(data, { recursive: true });
      await copyFolder(join(dir, name), data);
      server = await startPostgres({ dir, port, extra });
    },
    async query<Row>(text: string) {
      const db = openDatabase({ url, max: 1, applicationName: 'test' });
      try {
        const { rows } = await again(() => sql.raw<Row>(text).execute(db));
        return rows;
      } finally {
        await db.destroy();
      }
    },
  };
}
