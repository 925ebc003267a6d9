import { createLimits, type TakeLimit } from '../access/limits.ts';
import { checkMasterKeys } from '../access/master-keys.ts';
import { createSessionCheck } from '../access/sessions.ts';
import { type Hmac, webhookSecrets } from '../access/signing.ts';
import { readTokenKeys } from '../access/tokens.ts';
import { createDiskStore } from '../blobs/disk.ts';
import { registerAccount } from '../commands/accounts.ts';
import { eraseAccount, erasureAgain } from '../commands/erasures.ts';
import { requestExport } from '../commands/exports.ts';
import { cancelJob, discardJob, enqueueJob, foreseeChange, retryJob } from '../commands/jobs/requests.ts';
import { pauseQueue, resumeQueue } from '../commands/queues.ts';
import { createSchedule, deleteSchedule } from '../commands/schedules.ts';
import { endSession, login, refreshSession } from '../commands/sessions.ts';
import { accountFold } from '../domain/accounts.ts';
import type { RawEvent } from '../domain/event.ts';
import type { AccountId } from '../domain/ids.ts';
import { createJobTypes } from '../domain/job-types.ts';
import { sessionFold } from '../domain/sessions.ts';
import { connectSubscriber } from '../eventstore/connections.ts';
import { placesNow } from '../eventstore/feed/places.ts';
import { readFeed } from '../eventstore/feed/read.ts';
import { wholeHistory } from '../eventstore/history.ts';
import type { OpenEventStore } from '../eventstore/store.ts';
import { createCheckpointWatches } from '../eventstore/watches.ts';
import { configuredJobTypes, features, jobTypes, projections } from '../features.ts';
import { blobRoutes } from '../http/blobs.ts';
import { commandContexts } from '../http/commands.ts';
import { type FindFirstEvent, onceMade } from '../http/consistency.ts';
import { createStreams } from '../http/draining.ts';
import { storeOutageOf } from '../http/failures.ts';
import { metaOf } from '../http/jobs/event.ts';
import { metaRoutes } from '../http/meta.ts';
import { createServer } from '../http/server.ts';
import { streamTicketRoutes } from '../http/stream-tickets.ts';
import { findAccount } from '../projections/accounts.ts';
import { failedAttempts } from '../projections/dead-letters/attempts.ts';
import { findDeadLetter, listDeadLetters } from '../projections/dead-letters/queries.ts';
import { findExport } from '../projections/exports.ts';
import { jobAsOf } from '../projections/jobs/as-of.ts';
import {
  countScheduled,
  countWaiting,
  findJob,
  type JobView,
  listJobs,
} from '../projections/jobs/queries.ts';
import { listOperations } from '../projections/operations/queries.ts';
import { listParked } from '../projections/parked-events.ts';
import { groupOf } from '../projections/projection.ts';
import { NOTHING_WANTED, type Wanted } from '../projections/reading.ts';
import { findSchedule, listSchedules } from '../projections/schedules.ts';
import { currentTraceparent } from '../telemetry/tracing.ts';
import { allOf, type Base, orClose, type Role, readinessOf } from './base.ts';
import { feedOf, openFollowing } from './following.ts';
import { changeGroup, foreseeGroupChange, groupOfReadModel } from './groups.ts';
import { masterKeysOf } from './people.ts';
import { readQueues } from './queues.ts';
import { openReading } from './reading.ts';
import { cancelRebuild, foreseeCancel, foreseeRebuild, lastRebuild, rebuildReadModel } from './rebuilds.ts';
import { foreseeReplay, requestReplay } from './replays.ts';
import { byLane, foreseeSettling, requestSettling } from './settling.ts';
import { readStanding } from './standing/read.ts';
import { foreseeVerification, requestVerification } from './verifying.ts';
import { announceReads, checkReadModels } from './versions.ts';
import { openWriteSide } from './write-side.ts';

/** The API: accepts requests once this resolves. Throws when its port can't be had or its servers can't be used. */
export async function startApi(base: Base): Promise<Role & { readonly url: string }> {
  const { config, logger, metrics } = base;
  const side = await openWriteSide(base, 'api');
  const { db, store, commands, hmac } = side;
  await orClose(side.close, checkMasterKeys(db, masterKeysOf(config)));
  const subscriber = connectSubscriber({ url: config.REDIS_URL, name: 'api-hints' });
  const watchCheckpoints = createCheckpointWatches(subscriber, config.KEY_PREFIX);
  const following = openFollowing(base, side, 'api');
  const streams = createStreams({ perAccount: config.STREAMS_PER_ACCOUNT, metrics });
  const contextOf = commandContexts({ hmac, durability: config.DURABILITY });
  const loadSession = (id: Parameters<typeof store.load>[0]) => store.load(id, sessionFold);
  const loadAccount = (id: AccountId) => store.load(id, accountFold);
  const checkSession = createSessionCheck(
    {
      session: async (id) => (await loadSession(id)).state,
      account: async (id) => (await loadAccount(id)).state,
    },
    storeOutageOf,
  );
  const takeLimit = limiter(base, store, hmac);
  const blobs = createDiskStore(config.BLOB_DIR);
  const blobSecret = hmac('blob urls', '');
  const tokenKeys = readTokenKeys(config.TOKEN_KEYS);
  const letters = projections['dead-letters'];
  const types = createJobTypes([...jobTypes, ...configuredJobTypes(config)]);
  const { reading, one, ...reads } = openReading(
    base,
    { db, waitFor: side.waits.waitFor, guard: store.guard },
    'api',
  );
  const ready = async () => {
    const { checks } = await readinessOf(side);
    const readModels = await checkReadModels(side).catch(() => ({ ok: false }));
    const { ok } = allOf({ ...checks, readModels });
    return { ok, checks: { ...checks, readModels, ...reads.checks() } };
  };
  const rebuilds = { db, commands, partitions: config.PARTITIONS };
  const findFirst: FindFirstEvent = async (id) => {
    const [first] = await store.history(id, { after: 0, limit: 1 });
    return first && { position: first, ...ownerOf(first) };
  };
  const waitForWrites = (wanted: Wanted) =>
    reading({ projection: projections.jobs, partitions: [] }, { ...wanted, newest: true }, async () => {});

  const server = createServer({
    logger,
    metrics,
    tokens: { keys: tokenKeys, issuer: 'millrace', audience: 'millrace' },
    checkSession,
    hmac,
    takeLimit,
    streams,
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
        findAccount: onceMade(
          findFirst,
          one({ projection: projections.accounts, find: findAccount, keeps: () => true }),
        ),
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
      features.erasures.routes({
        hmac,
        contextOf,
        takeLimit,
        passwordMatches: side.people.passwordMatches,
        eraseAccount: (...rest) => eraseAccount(commands, ...rest),
        erasureAgain: (...rest) => erasureAgain(commands, ...rest),
        loadSession,
        loadAccount,
      }),
      features.jobs.routes({
        hmac,
        opened: side.opened,
        contextOf,
        jobTypes: types,
        enqueueJob: (...rest) => enqueueJob(commands, ...rest),
        // A batch is one span, that of its request, and not a thousand.
        enqueueInBatch: (...rest) =>
          enqueueJob({ ...commands, traceCommit: (_, run) => run(currentTraceparent()) }, ...rest),
        cancelJob: (...rest) => cancelJob(commands, ...rest),
        retryJob: (...rest) => retryJob(commands, ...rest),
        discardJob: (...rest) => discardJob(commands, ...rest),
        foreseeChange: (...rest) => foreseeChange(commands, ...rest),
        findJob: onceMade(findFirst, one({ projection: projections.jobs, find: findJob, keeps: keepsJob })),
        waitForWrites,
        listJobs: (listing, wanted) =>
          reading({ projection: projections.jobs }, wanted, (from) => listJobs(from, listing)),
        jobAsOf: (id, asOf) => jobAsOf(wholeHistory(store, id), asOf),
        readHistory: store.history,
        followJob: following.follow,
        streams,
        checkSession,
      }),
      features.exports.routes({
        contextOf,
        requestExport: (...rest) => requestExport(commands, ...rest),
        findExport: onceMade(
          findFirst,
          one({ projection: projections.exports, find: findExport, keeps: isOnesOwn }),
        ),
        blobSecret,
        watchReadModel: (projection, partition) => watchCheckpoints(groupNamed(projection), partition),
        streams,
        checkSession,
      }),
      features.schedules.routes({
        hmac,
        opened: side.opened,
        contextOf,
        jobTypes: types,
        shortestPauseSeconds: config.SCHEDULE_SHORTEST_PAUSE_SECONDS,
        createSchedule: (...rest) => createSchedule(commands, ...rest),
        deleteSchedule: (...rest) => deleteSchedule(commands, ...rest),
        findSchedule: onceMade(
          findFirst,
          one({ projection: projections.schedules, find: findSchedule, keeps: isOnesOwn }),
        ),
        listSchedules: (listing, wanted) =>
          reading({ projection: projections.schedules }, wanted, (from) => listSchedules(from, listing)),
      }),
      features.webhooks.routes({ secretOf: webhookSecrets(hmac) }),
      features['dead-letters'].routes({
        hmac,
        opened: side.opened,
        contextOf,
        listDeadLetters: (listing, wanted) =>
          reading({ projection: letters }, wanted, async (from) =>
            listDeadLetters(from, await byLane(from, hmac, listing)),
          ),
        findDeadLetter: (id, wanted) =>
          one({ projection: letters, find: findDeadLetter })(id, undefined, wanted),
        failedAttempts: (id) => failedAttempts(wholeHistory(store, id)),
        countWaiting: (lanes) => countWaiting(db, lanes),
        settleLetters: async (context, settling, wanted) =>
          requestSettling(commands, context, settling, {
            ...wanted,
            filter: await byLane(db, hmac, wanted.filter),
          }),
        foreseeSettling: async (filter, sample) =>
          foreseeSettling(side, await byLane(db, hmac, filter), sample),
      }),
      features.queues.routes({
        contextOf,
        readQueues: (names, wanted = NOTHING_WANTED) =>
          readQueues(side, names, reading({ projection: projections.jobs }, wanted, countScheduled)),
        pauseQueue: (...rest) => pauseQueue(commands, ...rest),
        resumeQueue: (...rest) => resumeQueue(commands, ...rest),
      }),
      features.operations.routes({
        hmac,
        listOperations: (listing, wanted) =>
          reading({ projection: projections.operations }, wanted, (from) => listOperations(from, listing)),
      }),
      features.groups.routes({
        contextOf,
        groupOfReadModel,
        changeGroup: (...rest) => changeGroup(side, ...rest),
        foreseeGroupChange: (...rest) => foreseeGroupChange(db, ...rest),
      }),
      features.standing.routes({
        hmac,
        async listParked(name, range) {
          const group = groupOfReadModel(name);
          return group === undefined ? undefined : listParked(db, group, range);
        },
        readStanding: () =>
          readStanding({
            ...{ db, keys: store.keys, prefix: config.KEY_PREFIX, now: store.clock.now },
            redis: store.reader.runId() === undefined ? undefined : store.reader.redis,
            ...{ fencedBecause: store.fencedBecause, memoryUsed: store.guard.usedShare },
          }),
      }),
      features.events.routes({
        hmac,
        partitions: config.PARTITIONS,
        readFeed: (range) => readFeed(feedOf(side), range),
        placesNow: () => placesNow(feedOf(side)),
        followFeed: following.followFeed,
        readHistory: store.history,
        followStream: following.follow,
        streams,
        checkSession,
      }),
      features.rebuilds.routes({
        contextOf,
        lastRebuild: (name) => lastRebuild(db, name),
        foreseeRebuild: (name) => foreseeRebuild(db, name),
        foreseeCancel: (name) => foreseeCancel(db, name),
        rebuild: (...rest) => rebuildReadModel(rebuilds, ...rest),
        cancel: (...rest) => cancelRebuild(rebuilds, ...rest),
      }),
      features.verifications.routes({
        contextOf,
        verify: (...rest) => requestVerification(commands, ...rest),
        foreseeVerification: (name) => foreseeVerification(db, name),
      }),
      features.replay.routes({
        contextOf,
        foreseeReplay: (wanted) => foreseeReplay(config, side, wanted),
        requestReplay: (...rest) => requestReplay(config, side, ...rest),
      }),
      streamTicketRoutes({ hmac }),
      blobRoutes({ blobs, secret: blobSecret }),
    ],
  });
  const announced = await announceReads(base, side);
  const close = async () => {
    await server.close();
    await announced.leave().catch(() => {});
    following.close();
    subscriber.disconnect();
    await reads.close();
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

/** What operators look at is not kept: an entry is for one asker, and the owner asks more often. */
const isOnesOwn = (_: unknown, owner: string | undefined) => owner !== undefined;

/** Whether a job is parked follows from others of its ordering key, and is told to the cache by nobody. */
const keepsJob = ({ status, orderingKey }: JobView, owner: string | undefined) =>
  owner !== undefined && !(orderingKey !== undefined && (status === 'queued' || status === 'scheduled'));

/** Written by `encodeChange` alone. */
function ownerOf(event: RawEvent): { owner?: string } {
  const { owner } = metaOf(event);
  return owner === undefined ? {} : { owner };
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

function groupNamed(projection: string): string {
  if (!Object.hasOwn(projections, projection)) throw new Error(`there is no projection ${projection}`);
  return groupOf(projections[projection as keyof typeof projections]);
}
