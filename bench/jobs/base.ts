import type { Base } from '../../src/app/base.ts';
import { readConfig } from '../../src/config.ts';
import { createLogger } from '../../src/telemetry/logging.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { databaseUrl } from './places.ts';

/** A process as `main.ts` makes it, for one place; tracing as where no collector is named. */
export function baseOf(place: string, concurrency = 8): Base {
  const config = readConfig({
    ...process.env,
    KEY_PREFIX: place,
    DATABASE_URL: databaseUrl(place),
    LOG_LEVEL: 'error',
    WORKER_CONCURRENCY: String(concurrency),
    INSTANCE_ID: `${place}-${process.pid}`,
  });
  const logger = createLogger({ level: config.LOG_LEVEL, role: 'bench', instanceId: config.INSTANCE_ID });
  return { config, logger, metrics: createMetrics({ node: false }) };
}
