import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { sql } from 'kysely';
import type { TestProject } from 'vitest/node';
import { removePostgres, startPostgres, startRedis } from '../../deploy/local/servers.mjs';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { migrateToLatest } from '../../src/projections/migrate.ts';
import { databaseUrl, dropDatabase, randomName } from './databases.ts';

declare module 'vitest' {
  interface ProvidedContext {
    redisUrl: string;
    /** Of the server's own database: worlds make theirs beside it. */
    serverUrl: string;
    /** A migrated database that every world's is copied from. */
    template: string;
  }
}

/** One Redis and one Postgres for the whole run, unless TEST_REDIS_URL / TEST_DATABASE_URL name others. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const dir = await mkdtemp(join(tmpdir(), 'millrace-test-'));
  const undo: (() => Promise<void>)[] = [() => rm(dir, { recursive: true, force: true })];
  const teardown = async () => {
    for (const step of undo.reverse()) await step();
  };
  try {
    let redisUrl = process.env.TEST_REDIS_URL;
    if (redisUrl === undefined) {
      const redis = await startRedis({ dir: join(dir, 'redis'), appendonly: 'no' });
      undo.push(redis.stop);
      redisUrl = redis.url;
    }
    let serverUrl = process.env.TEST_DATABASE_URL;
    if (serverUrl === undefined) {
      const home = join(dir, 'postgres');
      undo.push(() => removePostgres(home));
      const extra = ['fsync=off', 'synchronous_commit=off', 'full_page_writes=off'];
      const postgres = await startPostgres({ dir: home, extra });
      undo.push(postgres.stop);
      serverUrl = postgres.url;
    }
    const template = randomName('template');
    await makeTemplate(serverUrl, template);
    undo.push(() => dropDatabase(serverUrl, template));
    project.provide('redisUrl', redisUrl);
    project.provide('serverUrl', serverUrl);
    project.provide('template', template);
    return teardown;
  } catch (error) {
    await teardown();
    throw error;
  }
}

async function makeTemplate(serverUrl: string, name: string): Promise<void> {
  const server = openDatabase({ url: serverUrl, max: 1, applicationName: 'test-setup' });
  await sql`CREATE DATABASE ${sql.id(name)}`.execute(server).finally(() => server.destroy());
  const db = openDatabase({ url: databaseUrl(serverUrl, name), max: 1, applicationName: 'test-setup' });
  // A database that somebody is connected to can't be copied: hence closed before the first world.
  await migrateToLatest(db).finally(() => db.destroy());
}
