import { type Kysely, sql } from 'kysely';
import type { PeopleTables } from '../access/tables.ts';
import type { Config } from '../config.ts';
import { openDatabase } from '../eventstore/postgres.ts';
import { createEventStore, type EventStoreOptions, type OpenEventStore } from '../eventstore/store.ts';
import type { Database } from '../projections/database.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Readiness } from '../telemetry/management.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { openArchives } from './archives.ts';

/** What each process of an installation is made of. */
export type Base = {
  readonly config: Config;
  readonly logger: Logger;
  readonly metrics: Metrics;
};

/** A role that runs in this process. */
export type Role = {
  readonly name: string;
  /** With a line for each thing that it depends on. */
  ready(): Promise<Readiness>;
  /** Ends what runs, hands over, and closes what was opened. */
  stop(): Promise<void>;
};

export type Db = Kysely<Database & PeopleTables>;

/** What every role has open. */
export type Parts = { readonly db: Db; readonly store: OpenEventStore; close(): Promise<void> };

/** Opens database and event store. Throws what an operator must set right before anything can start. */
export async function openParts(
  { config, logger, metrics }: Base,
  name: string,
  patience: Pick<EventStoreOptions, 'startWithinMs'> = {},
): Promise<Parts> {
  const db: Db = openDatabase({
    url: config.DATABASE_URL,
    max: config.DATABASE_POOL,
    applicationName: `millrace-${name}`,
    onError: (err) => logger.warn({ err }, 'a connection to Postgres broke'),
  });
  try {
    const store = await createEventStore({
      redisUrl: config.REDIS_URL,
      db,
      archives: openArchives(config),
      prefix: config.KEY_PREFIX,
      partitions: config.PARTITIONS,
      name,
      ...patience,
      onCommit(outcome, seconds) {
        metrics.commits.inc({ outcome });
        metrics.commitDuration.observe(seconds);
      },
      onWarning: (warning) => logger.warn(warning),
      onError: (err) => logger.debug({ err }, 'a connection to Redis broke'),
    });
    return {
      db,
      store,
      async close() {
        await store.close();
        await db.destroy();
      },
    };
  } catch (error) {
    await db.destroy();
    throw error;
  }
}

/** Closes what was opened where something fails that is needed besides, and lets it fail. */
export async function orClose<T>(close: () => Promise<void>, needed: Promise<T>): Promise<T> {
  try {
    return await needed;
  } catch (error) {
    await close();
    throw error;
  }
}

/** A line for Redis (or why commits are stopped) and one for Postgres. */
export async function readinessOf({ db, store }: Pick<Parts, 'db' | 'store'>): Promise<Readiness> {
  const fenced = store.fencedBecause();
  const postgres = await sql`SELECT 1`.execute(db).then(
    () => ({ ok: true }),
    (error: unknown) => ({ ok: false, detail: error instanceof Error ? error.message : String(error) }),
  );
  return allOf({ redis: fenced === undefined ? { ok: true } : { ok: false, detail: fenced }, postgres });
}

/** Ready when all of it is. */
export function allOf(checks: Readiness['checks']): Readiness {
  return { ok: Object.values(checks).every((check) => check.ok), checks };
}
