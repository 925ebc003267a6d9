import { createHmacs, type Hmac } from '../access/signing.ts';
import type { Base, Db } from '../app/base.ts';
import { openSealing, type Sealing } from '../app/sealing.ts';
import { openWriteSide } from '../app/write-side.ts';
import { type Config, readConfig } from '../config.ts';
import { openDatabase } from '../eventstore/postgres.ts';
import { createLogger } from '../telemetry/logging.ts';
import { createMetrics } from '../telemetry/metrics.ts';

/** Somebody waits at a terminal. */
const START_WITHIN_MS = 5_000;

export type WriteSide = Awaited<ReturnType<typeof openWriteSide>>;

/** What the environment names. Only errors are logged: what a command has to say it prints. */
function base(): Base {
  const config = readConfig(process.env);
  const logger = createLogger({ level: 'error', role: 'cli', instanceId: config.INSTANCE_ID });
  return { config, logger, metrics: createMetrics({ node: false }) };
}

/** Connects to the installation's Redis and Postgres for one command. */
export async function withInstallation<T>(run: (side: WriteSide, base: Base) => Promise<T>): Promise<T> {
  const its = base();
  const side = await openWriteSide(its, 'cli', { startWithinMs: START_WITHIN_MS });
  try {
    return await run(side, its);
  } finally {
    await side.close();
  }
}

/** Connects to Postgres alone, whatever Redis is like. */
export async function withPostgres<T>(run: (db: Db, config: Config) => Promise<T>): Promise<T> {
  const { config } = base();
  const db: Db = openDatabase({ url: config.DATABASE_URL, max: 2, applicationName: 'millrace-cli' });
  try {
    return await run(db, config);
  } finally {
    await db.destroy();
  }
}

/**
 * Connects to Postgres alone: who only reads can do so while Redis is away. What was sealed for a person is shown by `opened`.
 */
export async function withReadModels<T>(
  run: (db: Db, hmac: Hmac, config: Config, opened: Sealing['opened']) => Promise<T>,
): Promise<T> {
  return withPostgres((db, config) =>
    run(db, createHmacs(config.HMAC_KEY), config, openSealing(config, db).opened),
  );
}
