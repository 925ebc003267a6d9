import { Redis } from 'ioredis';
import type { Kysely } from 'kysely';
import { inject } from 'vitest';
import type { PeopleTables } from '../../src/access/tables.ts';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import type { Database } from '../../src/projections/database.ts';
import { createDatabase, databaseUrl, dropDatabase, randomName } from './databases.ts';

export type World = {
  readonly redisUrl: string;
  /** A fresh database, migrated. */
  readonly databaseUrl: string;
  /** Of every Redis key; shared with no other world. */
  readonly prefix: string;
  readonly db: Kysely<Database & PeopleTables>;
  /** Closes `db` and removes the database and the keys. */
  dispose(): Promise<void>;
};

/**
 * A world of one's own on the run's shared Redis and Postgres. A test that stops, kills or flushes a server starts
 * its own (`deploy/local/servers.mjs`), and passes its URL here for the rest.
 *
 * @example
 * const world = await createWorld();
 * onTestFinished(() => world.dispose());
 */
export async function createWorld(servers: { redisUrl?: string } = {}): Promise<World> {
  const serverUrl = inject('serverUrl');
  const redisUrl = servers.redisUrl ?? inject('redisUrl');
  const name = randomName('world');
  await createDatabase(serverUrl, name, inject('template'));
  const url = databaseUrl(serverUrl, name);
  const db = openDatabase<Database & PeopleTables>({ url, max: 5, applicationName: 'test' });
  return {
    redisUrl,
    databaseUrl: url,
    prefix: name,
    db,
    async dispose() {
      await db.destroy();
      await dropDatabase(serverUrl, name);
      if (servers.redisUrl === undefined) await removeKeys(redisUrl, name);
    },
  };
}

async function removeKeys(redisUrl: string, prefix: string): Promise<void> {
  const redis = new Redis(redisUrl);
  for await (const keys of redis.scanStream({ match: `${prefix}:*`, count: 1000 })) {
    if (Array.isArray(keys) && keys.length > 0) await redis.unlink(keys);
  }
  redis.disconnect();
}
