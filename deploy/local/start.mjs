// npm start: from a bare checkout to a running Millrace, and everything stopped again by Ctrl-C.
import { join } from 'node:path';
import { migrate } from './cli.mjs';
import { makeLogin, readLogin, runFirstJob } from './first-job.mjs';
import { freePort, portIsFree } from './free-port.mjs';
import { readInstallation, removeInstallation, writeInstallation } from './installation.mjs';
import { tryLock, unlock } from './lock-file.mjs';
import { files, HOME } from './paths.mjs';
import { readRecord, writeRecord } from './records.mjs';
import { startRole, stopLeftoverRole, waitUntilReady } from './roles.mjs';
import { Refusal, reporter, runCommand } from './say.mjs';
import { readOrMakeSecrets } from './secrets.mjs';
import { startPostgres, startRedis } from './servers.mjs';
import { setUp } from './set-up.mjs';
import { readStartOptions, START_HELP } from './start-options.mjs';
import { supervisor } from './supervisor.mjs';
import { welcome } from './welcome.mjs';

/** @typedef {import('./start-options.mjs').StartOptions} StartOptions */
/** @typedef {ReturnType<typeof supervisor>} Supervisor */

const { say, step } = reporter();
const LOCK = join(HOME, 'start.lock');

await runCommand(async () => {
  const options = readStartOptions(process.argv.slice(2), process.env);
  if (options.help) {
    say(START_HELP);
    return 0;
  }
  if (!tryLock(LOCK)) {
    const { apiUrl } = readInstallation();
    throw new Refusal(
      `Millrace runs in this checkout already${apiUrl ? `, at ${apiUrl}` : ''}: stop that one first.`,
    );
  }
  try {
    await start(options);
    return 0;
  } finally {
    unlock(LOCK);
  }
});

/** @param {StartOptions} options */
async function start(options) {
  for (const role of Object.values(readInstallation().roles ?? {})) await stopLeftoverRole(role.pid);
  if (options.fresh) await step('the data of earlier starts removed', removeInstallation);
  if (options.roles.includes('api')) await refuseTakenPort(options);
  const toolchain = await setUp({ redis: options.redisUrl === undefined });

  const parts = supervisor(say, options.shutdownSeconds);
  const stop = new AbortController();
  /** @type {Promise<'asked'>} */
  const asked = new Promise((resolve) => {
    // Once or often: a second copy of the signal is no force. The roles get the terminal's Ctrl-C as well.
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => resolve('asked'));
  });
  const up = bringUp(options, toolchain, parts, stop.signal);
  try {
    await Promise.race([up, asked, crashOf(parts)]);
    await Promise.race([asked, crashOf(parts)]);
    say('\nStopping: the roles finish what they hold, then the servers stop.');
  } finally {
    stop.abort();
    await up.catch(() => {}); // nothing may be started behind our back
    await parts.stop();
    const { id } = readInstallation();
    writeInstallation({ id, running: false });
  }
  say('Stopped. The data stays in .millrace/');
}

/**
 * @param {StartOptions} options
 * @param {import('./node.mjs').Toolchain} toolchain
 * @param {Supervisor} parts
 * @param {AbortSignal} signal
 */
async function bringUp(options, toolchain, parts, signal) {
  const [redis, postgres] = await together([
    options.redisUrl === undefined
      ? step('Redis started', () => startRedis({ dir: files.redis })).then((server) =>
          parts.addServer('Redis', server),
        )
      : undefined,
    options.databaseUrl === undefined
      ? step('Postgres started', () => startPostgres({ dir: files.postgres })).then((server) =>
          parts.addServer('Postgres', server),
        )
      : undefined,
  ]);
  const redisUrl = options.redisUrl ?? redis?.url ?? '';
  const databaseUrl = options.databaseUrl ?? postgres?.url ?? '';
  signal.throwIfAborted();

  const { id } = readInstallation();
  const port = options.port || (await freePort(options.host));
  const apiUrl = `http://${reachable(options.host)}:${port}`;
  const environment = {
    ...readOrMakeSecrets(files.environment),
    BLOB_DIR: files.blobs,
    NODE_ENV: 'development',
    ...setVariables(),
    REDIS_URL: redisUrl,
    DATABASE_URL: databaseUrl,
    MANAGEMENT_HOST: '127.0.0.1', // where we ask whether they are ready
    HOST: options.host,
    PORT: String(port),
  };
  await step('migrated', () => migrate(toolchain, environment));
  signal.throwIfAborted();

  const ports = await freePorts(options.roles.length);
  const roles = options.roles.map((name, index) =>
    parts.addRole(
      startRole({
        name,
        toolchain,
        managementPort: ports[index] ?? 0,
        environment: { ...environment, INSTANCE_ID: `${id}-${name}` },
      }),
    ),
  );
  writeInstallation({
    id,
    running: true,
    redisUrl,
    databaseUrl,
    apiUrl,
    ...(redis && { redisData: redis.dir }),
    ...(postgres && { postgresData: postgres.dataDir }),
    roles: Object.fromEntries(
      roles.map(({ name, pid, managementUrl, log }) => [name, { pid, managementUrl, log }]),
    ),
  });
  await step(`${options.roles.join(', ')} ready`, () =>
    Promise.all(roles.map((role) => waitUntilReady(role, signal))),
  );
  const seconds = performance.now() / 1000;

  const own = options.redisUrl === undefined && options.databaseUrl === undefined;
  const complete =
    own && ['api', 'workers', 'projectors'].every((name) => roles.some((role) => role.name === name));
  const isFirst = complete && readRecord(files.firstStart).done !== true;
  if (isFirst) await proveIt(toolchain, environment, apiUrl, signal);
  say(
    welcome({
      apiUrl,
      hasApi: options.roles.includes('api'),
      login: own ? readLogin() : undefined,
      isNewLogin: isFirst,
      logs: roles.map((role) => role.log),
      tracesTo: process.env.OTEL_EXPORTER_OTLP_ENDPOINT || undefined,
      seconds,
    }),
  );
}

/**
 * Once in an installation's life.
 * @param {import('./node.mjs').Toolchain} toolchain
 * @param {Record<string, string>} environment
 * @param {string} apiUrl
 * @param {AbortSignal} signal
 */
async function proveIt(toolchain, environment, apiUrl, signal) {
  const login = await step('a log-in made', () => makeLogin(toolchain, environment, apiUrl));
  try {
    await step(
      ({ id, events }) => `the first job: export ${id} succeeded, ${events} events in its file`,
      () => runFirstJob(apiUrl, login, signal),
    );
    writeRecord(files.firstStart, { done: true });
  } catch (error) {
    if (signal.aborted) throw error;
    // What is wrong is best looked at while it runs; the next start tries again.
    say(`The first job failed: ${/** @type {Error} */ (error).message}`);
  }
}

/**
 * As Promise.all, but settled as a whole: when one fails, the other must not go on starting behind our back.
 * @template {readonly unknown[]} T
 * @param {[...T]} work
 */
async function together(work) {
  await Promise.allSettled(work);
  return Promise.all(work);
}

/** @param {Supervisor} parts */
async function crashOf(parts) {
  throw new Refusal(await parts.crashed);
}

/** @param {StartOptions} options */
async function refuseTakenPort({ host, port }) {
  if (port === 0 || (await portIsFree(port, host))) return;
  throw new Refusal(
    `Port ${port} of ${host} is taken or not allowed: choose another, as in npm start -- --port ${port + 1}`,
  );
}

/** @param {number} count */
async function freePorts(count) {
  /** @type {Set<number>} */
  const ports = new Set();
  while (ports.size < count) ports.add(await freePort());
  return [...ports];
}

/** @param {string} host */
function reachable(host) {
  if (host === '0.0.0.0' || host === '::') return '127.0.0.1';
  return host.includes(':') ? `[${host}]` : host;
}

/** The environment wins over what we would choose, save for variables that are set to nothing. */
function setVariables() {
  /** @type {Record<string, string>} */
  const set = {};
  for (const [name, value] of Object.entries(process.env)) if (value) set[name] = value;
  return set;
}
