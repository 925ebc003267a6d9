/** The process in which a job runs alone; `workers.ts` starts it. The environment is its worker's. */
import { readConfig } from '../config.ts';
import { serveRun } from '../consumers/child.ts';
import { createLogger } from '../telemetry/logging.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { startTracing } from '../telemetry/start.ts';
import { openParts } from './base.ts';
import { jobDefinitions } from './jobs.ts';
import { openSealing } from './sealing.ts';

const ROLE = 'job';

const config = readConfig(process.env);
const log = { level: config.LOG_LEVEL, role: ROLE, instanceId: config.INSTANCE_ID };
const logger = createLogger(log);
const tracing = startTracing({
  serviceName: 'millrace',
  role: ROLE,
  instanceId: config.INSTANCE_ID,
  sampleRatio: config.TRACE_SAMPLE_RATIO,
  ...(config.OTEL_EXPORTER_OTLP_ENDPOINT ? { otlpEndpoint: config.OTEL_EXPORTER_OTLP_ENDPOINT } : {}),
  logger,
});
const parts = await openParts({ config, logger, metrics: createMetrics({ node: false }) }, ROLE);
serveRun(jobDefinitions(config, parts, openSealing(config, parts.db, parts.store)), {
  log,
  beforeExit: tracing.flush,
});
