import { parseArgs } from 'node:util';
import { startApi } from './app/api.ts';
import type { Base, Role } from './app/base.ts';
import { keepNewObjectsYoung } from './app/garbage.ts';
import { startProjectorRole } from './app/projectors.ts';
import { startAll } from './app/start-all.ts';
import { startWorkerRole } from './app/workers.ts';
import { ConfigError, readConfig } from './config.ts';
import { createLogger, type Logger } from './telemetry/logging.ts';
import { startManagement } from './telemetry/management.ts';
import { createMetrics } from './telemetry/metrics.ts';
import { startTracing } from './telemetry/start.ts';

const HELP = `Usage: node src/main.ts --roles api,projectors,workers

Starts the roles named, in this process, until SIGTERM or SIGINT; then drains them and leaves with 0.
The environment says how: npx millrace config`;

const starts: Readonly<Record<string, (base: Base) => Promise<Role>>> = {
  api: startApi,
  projectors: startProjectorRole,
  workers: startWorkerRole,
};

/** What draining may take beyond SHUTDOWN_SECONDS before the process is ended all the same. */
const DRAIN_MARGIN_MS = 3_000;

const { roles, help } = options();
if (help) {
  console.log(HELP);
} else {
  const config = configuration();
  const role = roles.join('+');
  const logger = createLogger({ level: config.LOG_LEVEL, role, instanceId: config.INSTANCE_ID });
  process.on('uncaughtException', (err) => {
    logger.fatal({ err }, 'a bug: the process ends, and its leases pass on when they expire');
    process.exit(1);
  });
  await run({ config, logger, metrics: createMetrics() }, role);
}

/** Runs until told to stop. */
async function run(base: Base, role: string): Promise<void> {
  keepNewObjectsYoung();
  const { config, logger, metrics } = base;
  const tracing = startTracing({
    serviceName: 'millrace',
    role,
    instanceId: config.INSTANCE_ID,
    sampleRatio: config.TRACE_SAMPLE_RATIO,
    ...(config.OTEL_EXPORTER_OTLP_ENDPOINT ? { otlpEndpoint: config.OTEL_EXPORTER_OTLP_ENDPOINT } : {}),
    logger,
  });
  const running: Role[] = [];
  let starting = true;
  const management = await startManagement({
    host: config.MANAGEMENT_HOST,
    port: config.MANAGEMENT_PORT,
    metrics,
    logger,
    async ready() {
      const each = await Promise.all(running.map((started) => started.ready()));
      const checks = Object.assign({ roles: { ok: !starting } }, ...each.map((ready) => ready.checks));
      return { ok: !starting && each.every((ready) => ready.ok), checks };
    },
  });
  const stopped = untilStopped(logger);
  try {
    running.push(...(await startAll(roles.map((name) => () => started(name, base)))));
    starting = false;
    const url = running.map((each) => ('url' in each ? each.url : undefined)).find(Boolean);
    logger.info({ url, managementPort: management.port }, 'started');
    await stopped;
  } catch (err) {
    logger.fatal({ err }, 'could not start');
    process.exitCode = 1;
  }
  endIfNotDrained(config.SHUTDOWN_SECONDS * 1000 + DRAIN_MARGIN_MS, logger);
  await Promise.all(running.map((each) => each.stop()));
  await management.close();
  await tracing.shutdown();
  logger.info('stopped');
  // A handler that heeds no signal may run on: its job is somebody else's by now.
  process.exit();
}

async function started(name: string, base: Base): Promise<Role> {
  const start = starts[name];
  if (!start) throw new Error(`there is no role ${name}`);
  return start({ ...base, logger: base.logger.child({ role: name }) });
}

/** A second copy of the signal is no force: a terminal's Ctrl-C reaches the whole process group. */
function untilStopped(logger: Logger): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      process.on(signal, () => {
        logger.info({ signal }, 'stopping');
        resolve();
      });
    }
  });
}

function endIfNotDrained(ms: number, logger: Logger): void {
  setTimeout(() => {
    logger.error('not drained in time: what still runs is left to others');
    process.exit(1);
  }, ms).unref();
}

function configuration() {
  try {
    return readConfig(process.env);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    console.error(error.message);
    process.exit(2);
  }
}

function options(): { roles: string[]; help: boolean } {
  try {
    const { values } = parseArgs({
      options: { roles: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
    });
    const named = (values.roles ?? Object.keys(starts).join(',')).split(',').map((name) => name.trim());
    const unknown = named.find((name) => !Object.hasOwn(starts, name));
    if (unknown !== undefined)
      throw new Error(`there is no role ${unknown}; roles are ${Object.keys(starts).join(', ')}`);
    return { roles: [...new Set(named)], help: values.help ?? false };
  } catch (error) {
    console.error(`${error instanceof Error ? error.message : error}\n\n${HELP}`);
    process.exit(2);
  }
}
