import { createHash, randomBytes, randomFillSync } from 'node:crypto';
import { type Kysely, sql } from 'kysely';
import { createLimits, type TakeLimit } from './access/limits.ts';
import { createPasswords } from './access/passwords.ts';
import { createPeople, masterKey } from './access/people.ts';
import { createSessionCheck } from './access/sessions.ts';
import { createHmacs, type Hmac } from './access/signing.ts';
import type { PeopleTables } from './access/tables.ts';
import { readTokenKeys } from './access/tokens.ts';
import { unsealed } from './access/unseal.ts';
import { createDiskStore } from './blobs/disk.ts';
import { registerAccount } from './commands/accounts.ts';
import { requestExport } from './commands/exports.ts';
import type { CommandDeps } from './commands/handle.ts';
import { cancelJob, enqueueJob, type JobCommandDeps, retryJob } from './commands/jobs/requests.ts';
import { endSession, login, refreshSession, type SessionDeps } from './commands/sessions.ts';
import type { Config } from './config.ts';
import { publishHint } from './consumers/hints.ts';
import { startLeaseKeeper } from './consumers/lease-keeper.ts';
import { createLedger } from './consumers/ledger.ts';
import { observeLedger } from './consumers/observe-ledger.ts';
import { startProjectors } from './consumers/projectors.ts';
import type { Connections, RunningRole } from './consumers/role.ts';
import { startWorkers } from './consumers/workers.ts';
import { codec } from './domain/events.ts';
import { createJobTypes } from './domain/job-types.ts';
import { sessionFold } from './domain/sessions.ts';
import { connectBlocking, connectSubscriber, connectWriter } from './eventstore/connections.ts';
import { createDurability } from './eventstore/durability.ts';
import { wholeHistory } from './eventstore/history.ts';
import { openDatabase, openPool } from './eventstore/postgres.ts';
import { createEventStore, type OpenEventStore } from './eventstore/store.ts';
import { createCheckpointWaits } from './eventstore/waits.ts';
import { createCheckpointWatches } from './eventstore/watches.ts';
import { features, jobTypes, plainJobs, projections } from './features.ts';
import { blobRoutes } from './http/blobs.ts';
import { commandContexts } from './http/commands.ts';
import { createStreams } from './http/draining.ts';
import { isStoreOutage } from './http/failures.ts';
import { metaRoutes } from './http/meta.ts';
import { createServer } from './http/server.ts';
import { streamTicketRoutes } from './http/stream-tickets.ts';
import { findAccount } from './projections/accounts.ts';
import { readAtLeast } from './projections/consistency.ts';
import type { Database } from './projections/database.ts';
import { findExport } from './projections/exports.ts';
import { findJob, jobAsOf, listJobs } from './projections/jobs.ts';
import { observeProjection } from './projections/observe.ts';
import { type AnyProjection, type AnyRow, groupOf } from './projections/projection.ts';
import { createProjectionGroup } from './projections/runner.ts';
import type { Logger } from './telemetry/logging.ts';
import type { Readiness } from './telemetry/management.ts';
import type { Metrics } from './telemetry/metrics.ts';
import { ATTR, SPAN } from './telemetry/names.ts';
import { currentTraceparent, SpanKind, withSpan } from './telemetry/tracing.ts';

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

type Db = Kysely<Database & PeopleTables>;
type Parts = { readonly db: Db; readonly store: OpenEventStore; close(): Promise<void> };

/** The API: accepts requests once this resolves. Throws when its port can't be had or its servers can't be used. */
export async function startApi(base: Base): Promise<Role & { readonly url: string }> {
  const { config, logger, metrics } = base;
  const side = await openWriteSide(base, 'api');
  const { db, store, commands, hmac } = side;
  const subscriber = connectSubscriber({ url: config.REDIS_URL, name: 'api-hints' });
  const watchCheckpoints = createCheckpointWatches(subscriber, config.KEY_PREFIX);
  const streams = createStreams();
  const contextOf = commandContexts({ hmac, durability: config.DURABILITY });
  const loadSession = (id: Parameters<typeof store.load>[0]) => store.load(id, sessionFold);
  const checkSession = createSessionCheck(async (id) => (await loadSession(id)).state, isStoreOutage);
  const takeLimit = limiter(base, store, hmac);
  const blobs = createDiskStore(config.BLOB_DIR);
  const blobSecret = hmac('blob urls', '');
  const tokenKeys = readTokenKeys(config.TOKEN_KEYS);
  const ready = () => readinessOf(side);

  const server = createServer({
    logger,
    metrics,
    tokens: { keys: tokenKeys, issuer: 'millrace', audience: 'millrace' },
    checkSession,
    hmac,
    takeLimit,
    streams,
    waitForReadModel: (wait) =>
      readAtLeast({ db, waitFor: side.waits.waitFor }, { ...wait, group: groupNamed(wait.projection) }),
    settings: {
      corsOrigins: config.CORS_ORIGINS,
      trustProxy: config.TRUST_PROXY,
      drainMs: config.SHUTDOWN_SECONDS * 1000,
    },
    routes: [
      metaRoutes({ ready, tokenKeys }),
      features.accounts.routes({
        contextOf,
        takeLimit,
        registerAccount: (...rest) => registerAccount(commands, ...rest),
        findAccount: (id) => findAccount(db, id),
        openFor: side.people.openFor,
      }),
      features.sessions.routes({
        contextOf,
        takeLimit,
        login: (...rest) => login(commands, ...rest),
        refreshSession: (...rest) => refreshSession(commands, ...rest),
        endSession: (...rest) => endSession(commands, ...rest),
        loadSession,
      }),
      features.jobs.routes({
        hmac,
        contextOf,
        jobTypes: createJobTypes(jobTypes),
        enqueueJob: (...rest) => enqueueJob(commands, ...rest),
        // A batch is one span, that of its request, and not a thousand.
        enqueueInBatch: (...rest) =>
          enqueueJob({ ...commands, traceCommit: (_, run) => run(currentTraceparent()) }, ...rest),
        cancelJob: (...rest) => cancelJob(commands, ...rest),
        retryJob: (...rest) => retryJob(commands, ...rest),
        findJob: (id, owner) => findJob(db, id, owner),
        listJobs: (listing) => listJobs(db, listing),
        jobAsOf: (id, asOf) => jobAsOf(wholeHistory(store, id), asOf),
        readHistory: store.history,
      }),
      features.exports.routes({
        contextOf,
        requestExport: (...rest) => requestExport(commands, ...rest),
        findExport: (id, owner) => findExport(db, id, owner),
        blobSecret,
        watchReadModel: (projection, partition) => watchCheckpoints(groupNamed(projection), partition),
        streams,
        checkSession,
      }),
      streamTicketRoutes({ hmac }),
      blobRoutes({ blobs, secret: blobSecret }),
    ],
  });
  const close = async () => {
    await server.close();
    subscriber.disconnect();
    await side.close();
  };
  try {
    const url = await server.listen({ host: config.HOST, port: config.PORT });
    return { name: 'api', url, ready, stop: close };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The ledger, the projections, and trimming. */
export async function startProjectorRole(base: Base): Promise<Role> {
  const { metrics } = base;
  const parts = await openParts(base, 'projectors');
  const { db, store } = parts;
  const pool = openPool({
    url: base.config.DATABASE_URL,
    max: LEDGER_POOL,
    applicationName: 'millrace-ledger',
  });
  const reading = <R extends AnyRow>(projection: AnyProjection<R>) =>
    createProjectionGroup({ db, projection, codec, observe: observeProjection(projection, metrics) });
  const { accounts, jobs, exports } = projections;
  const groups = [
    createLedger(pool, db, { observe: observeLedger }),
    reading(accounts),
    reading(jobs),
    reading(exports),
  ];
  const running = await startProjectors({ ...roleDeps(base, parts, 'projectors'), groups, trim: TRIM });
  return roleOf('projectors', running, { db, store }, async () => {
    await pool.end();
    await parts.close();
  });
}

/** Workers: the lanes and the jobs that they run. */
export async function startWorkerRole(base: Base): Promise<Role> {
  const { config } = base;
  const parts = await openParts(base, 'workers');
  const { db, store } = parts;
  const people = peopleOf(config, db);
  const running = await startWorkers({
    ...roleDeps(base, parts, 'workers'),
    ...commandBasics,
    jobs: [
      ...plainJobs,
      features.exports.job({
        db,
        blobs: createDiskStore(config.BLOB_DIR),
        openSealed: (accountId, data) => unsealed(data, (texts) => people.openFor(accountId, texts)),
        randomText,
      }),
    ],
    concurrency: config.WORKER_CONCURRENCY,
    drainMs: config.SHUTDOWN_SECONDS * 1000 * DRAIN_JOBS,
    random: Math.random,
  });
  return roleOf('workers', running, { db, store }, parts.close);
}

/** What is needed to send commands, over HTTP or from the command line. */
export async function openWriteSide(base: Base, name: string) {
  const { config } = base;
  const parts = await openParts(base, name);
  const hmac = createHmacs(config.HMAC_KEY);
  const people = peopleOf(config, parts.db);
  const subscriber = connectSubscriber({ url: config.REDIS_URL, name: `${name}-checkpoints` });
  const waits = createCheckpointWaits({ subscriber, db: parts.db, prefix: config.KEY_PREFIX });
  const waiter = connectWriter({
    url: config.REDIS_URL,
    name: `${name}-wait`,
    replyWithinMs: config.DURABILITY_TIMEOUT_MS + 1_000,
  });
  const { awaitDurability } = createDurability({
    connection: waiter,
    waits,
    trusted: parts.store.fence.trusted,
    timeoutMs: config.DURABILITY_TIMEOUT_MS,
  });
  const hint = (topic: 'timers' | 'cancels', text: string) =>
    publishHint(parts.store.writer.redis, config.KEY_PREFIX, topic, text);
  const commands: CommandDeps & SessionDeps & JobCommandDeps & { readonly people: typeof people } = {
    ...commandBasics,
    store: parts.store,
    hmac: (purpose, text) => hmac(purpose, text).toString('hex'),
    idempotencyRetentionMs: config.IDEMPOTENCY_RETENTION * 1000,
    awaitDurability,
    people,
    passwordMatches: people.passwordMatches,
    randomSecret: () => randomBytes(32).toString('base64url'),
    sha256: (text) => createHash('sha256').update(text).digest('hex'),
    sessionLifetimeMs: SESSION_LIFETIME_MS,
    hint: {
      timer: (partition, dueAt) => hint('timers', `${partition} ${dueAt}`),
      cancel: (jobId) => hint('cancels', jobId),
    },
  };
  return {
    ...parts,
    hmac,
    people,
    waits,
    commands,
    async close() {
      waits.close();
      subscriber.disconnect();
      waiter.close();
      await parts.close();
    },
  };
}

/** A session that nobody refreshes ends after thirty days. */
const SESSION_LIFETIME_MS = 30 * 24 * 3_600_000;
const LEDGER_POOL = 4;
/** The part of a shutdown's time that jobs have; the rest is for handing over what is left of them. */
const DRAIN_JOBS = 0.9;
const TRIM = { windowEvents: 1_000, retentionMs: 60_000, everyMs: 5_000 } as const;
const LETTERS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

const commandBasics: Pick<CommandDeps, 'now' | 'randomText' | 'traceCommit'> = {
  now: () => new Date(),
  randomText,
  traceCommit: (partition, run) =>
    withSpan(SPAN.commit, { kind: SpanKind.PRODUCER, attributes: { [ATTR.partition]: partition } }, () =>
      run(currentTraceparent()),
    ),
};

/** Letters and digits; those few bytes that would favour some of them are left out. */
function randomText(length: number): string {
  const text = Buffer.allocUnsafe(length);
  for (let at = 0; at < length; ) {
    const byte = nextRandomByte();
    if (byte < 248) text[at++] = LETTERS.charCodeAt(byte % 62);
  }
  return text.toString('latin1');
}

/** Randomness is asked for in pieces of 4 KiB: a call for each id costs more than the id. */
const randomPool = Buffer.alloc(4096);
let randomUsed = randomPool.length;

function nextRandomByte(): number {
  if (randomUsed === randomPool.length) {
    randomFillSync(randomPool);
    randomUsed = 0;
  }
  return randomPool.readUInt8(randomUsed++);
}

async function openParts({ config, logger, metrics }: Base, name: string): Promise<Parts> {
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
      prefix: config.KEY_PREFIX,
      partitions: config.PARTITIONS,
      name,
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

function peopleOf(config: Config, db: Db) {
  return createPeople(db, masterKey(config.MASTER_KEY), createPasswords({ cost: config.BCRYPT_COST }));
}

function limiter({ config, logger }: Base, store: OpenEventStore, hmac: Hmac): TakeLimit {
  if (!config.RATE_LIMITS) return async () => 'unknown';
  return createLimits({
    client: store.writer.redis,
    prefix: config.KEY_PREFIX,
    hmac,
    onOutage: (err) => logger.warn({ err }, 'limits are not kept while Redis is away'),
  });
}

function roleDeps({ config, metrics, logger }: Base, { db, store }: Parts, role: string) {
  const { REDIS_URL: url, INSTANCE_ID: instanceId, KEY_PREFIX: prefix } = config;
  const onError = (err: Error) => logger.debug({ err }, 'a connection to Redis broke');
  const connections: Connections = {
    blocking: (name, blockMs) => connectBlocking({ url, name, blockMs, onError }),
    subscriber: (name) => connectSubscriber({ url, name, onError }),
    leaseKeeper: () =>
      startLeaseKeeper({
        redisUrl: url,
        log: { level: config.LOG_LEVEL, role, instanceId },
        onDeath(err) {
          logger.fatal({ err }, 'leases are not renewed any more: the process ends');
          process.exit(1);
        },
      }),
  };
  return { instanceId, prefix, store, db, connections, metrics, logger };
}

function roleOf(
  name: string,
  running: RunningRole,
  parts: Pick<Parts, 'db' | 'store'>,
  close: () => Promise<void>,
): Role {
  let started = false;
  running.ready().then(
    () => {
      started = true;
    },
    () => {
      // It was stopped before it had taken anything.
    },
  );
  return {
    name,
    async ready() {
      const { checks } = await readinessOf(parts);
      const partitions = { ok: started, detail: started ? `${running.held().length} held` : 'not taken yet' };
      return allOf({ ...checks, partitions });
    },
    async stop() {
      await running.stop();
      await close();
    },
  };
}

async function readinessOf({ db, store }: Pick<Parts, 'db' | 'store'>): Promise<Readiness> {
  const fenced = store.fencedBecause();
  const postgres = await sql`SELECT 1`.execute(db).then(
    () => ({ ok: true }),
    (error: unknown) => ({ ok: false, detail: error instanceof Error ? error.message : String(error) }),
  );
  return allOf({ redis: fenced === undefined ? { ok: true } : { ok: false, detail: fenced }, postgres });
}

function allOf(checks: Readiness['checks']): Readiness {
  return { ok: Object.values(checks).every((check) => check.ok), checks };
}

function groupNamed(projection: string): string {
  if (!Object.hasOwn(projections, projection)) throw new Error(`there is no projection ${projection}`);
  return groupOf(projections[projection as keyof typeof projections]);
}
