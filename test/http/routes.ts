import { webhookSecrets } from '../../src/access/signing.ts';
import type { Done } from '../../src/commands/handle.ts';
import { echoJob } from '../../src/consumers/echo.ts';
import { exportJobType } from '../../src/domain/exports.ts';
import { httpRequestsTo } from '../../src/domain/http-requests.ts';
import {
  type AccountId,
  type ExportId,
  type JobId,
  type ScheduleId,
  type SessionId,
  streamId,
} from '../../src/domain/ids.ts';
import { createJobTypes } from '../../src/domain/job-types.ts';
import { accountRoutes } from '../../src/http/accounts.ts';
import { blobRoutes } from '../../src/http/blobs.ts';
import { commandContexts } from '../../src/http/commands.ts';
import { deadLetterRoutes } from '../../src/http/dead-letters.ts';
import { createStreams } from '../../src/http/draining.ts';
import { erasureRoutes } from '../../src/http/erasures.ts';
import { eventRoutes } from '../../src/http/events/routes.ts';
import { exportRoutes } from '../../src/http/exports.ts';
import { groupRoutes } from '../../src/http/groups.ts';
import { jobRoutes } from '../../src/http/jobs/routes.ts';
import { metaRoutes } from '../../src/http/meta.ts';
import { operationRoutes } from '../../src/http/operations.ts';
import { queueRoutes } from '../../src/http/queues.ts';
import { rebuildRoutes } from '../../src/http/rebuilds.ts';
import { replayRoutes } from '../../src/http/replay.ts';
import { scheduleRoutes } from '../../src/http/schedules.ts';
import { sessionRoutes } from '../../src/http/sessions.ts';
import { type Standing, standingRoutes } from '../../src/http/standing/routes.ts';
import { streamTicketRoutes } from '../../src/http/stream-tickets.ts';
import { pollReadModel } from '../../src/http/streams.ts';
import { verificationRoutes } from '../../src/http/verifications.ts';
import { webhookRoutes } from '../../src/http/webhooks.ts';
import type { RebuildView } from '../../src/projections/rebuild/progress.ts';
import { edge, hmac, tokens } from './harness.ts';

export const accountId: AccountId = streamId('acc', 3, 'a'.repeat(20));
export const sessionId: SessionId = streamId('ses', 3, 'b'.repeat(20));
export const exportId: ExportId = streamId('exp', 3, 'c'.repeat(20));
export const jobId: JobId = streamId('job', 3, 'c'.repeat(20));
export const scheduleId: ScheduleId = streamId('sched', 3, 'd'.repeat(20));

const rebuildOfJobs: RebuildView = {
  ...{ projection: 'jobs', version: 2, generation: 2, phase: 'filling', position: 5, target: 12 },
  ...{ beganAt: '2026-01-01T00:00:00.000Z', by: 'system:test', reason: 'a test' },
};

type Overrides = Partial<
  Parameters<typeof accountRoutes>[0] &
    Parameters<typeof sessionRoutes>[0] &
    Parameters<typeof erasureRoutes>[0] &
    Parameters<typeof jobRoutes>[0] &
    Parameters<typeof exportRoutes>[0] &
    Parameters<typeof queueRoutes>[0] &
    Parameters<typeof groupRoutes>[0] &
    Parameters<typeof rebuildRoutes>[0] &
    Parameters<typeof verificationRoutes>[0] &
    Parameters<typeof replayRoutes>[0] &
    Parameters<typeof deadLetterRoutes>[0] &
    Parameters<typeof operationRoutes>[0] &
    Parameters<typeof eventRoutes>[0] &
    Parameters<typeof standingRoutes>[0] &
    Parameters<typeof scheduleRoutes>[0] &
    Parameters<typeof metaRoutes>[0] &
    Parameters<typeof blobRoutes>[0]
> & { server?: Parameters<typeof edge>[0] };

const standing: Standing = {
  overview: {
    ...{ redis: { ok: true }, postgres: { ok: true }, commits: { stopped: false }, partitions: 4 },
    ...{ processes: {}, groups: [], rebuilding: [] },
  },
  ...{ partitions: [], groups: [], workers: [], projections: [] },
};

/** All routes of the API, over commands and queries that a test may say the answers of. */
export function everyRoute({ server = {}, ...overrides }: Overrides = {}) {
  const streams = createStreams();
  const secret = Buffer.alloc(32, 9);
  const deps = {
    contextOf: commandContexts({ hmac, durability: 'memory' }),
    hmac,
    opened: async <T>(_owner: string | undefined, value: T) => value,
    streams,
    takeLimit: async () => 'unknown' as const,
    registerAccount: async () => done({ id: accountId, version: 1 }),
    login: async () => ({
      ...done({ id: sessionId, version: 1, accountId, role: 'user' as const }),
      refreshToken: 'r',
    }),
    refreshSession: async () => ({
      ...done({ id: sessionId, version: 2, accountId, role: 'user' as const }),
      refreshToken: 'r2',
    }),
    endSession: async () => done({ id: sessionId, version: 3 }),
    loadSession: async () => ({ state: { phase: 'none' as const }, version: 0 }),
    passwordMatches: async () => true,
    eraseAccount: async () => done({ id: accountId, version: 2 }),
    erasureAgain: async () => done({ id: accountId, version: 2 }),
    loadAccount: async () => ({
      state: { phase: 'erasing' as const, jobId, erasedAt: '2026-01-01T00:00:00.000Z' },
      version: 2,
    }),
    requestExport: async () => done({ id: exportId, version: 2, jobId, status: 'queued' as const }),
    findAccount: async () => undefined,
    openFor: async (_id: string, texts: readonly string[]) => [...texts],
    jobTypes: createJobTypes([
      echoJob,
      exportJobType,
      httpRequestsTo([{ protocol: 'https:', host: 'hooks.example.com', port: '443' }]),
    ]),
    enqueueJob: async () => done({ id: jobId, version: 1, status: 'queued' as const }),
    enqueueInBatch: async () => done({ id: jobId, version: 1, status: 'queued' as const }),
    cancelJob: async () => done({ id: jobId, version: 2, status: 'cancelled' as const }),
    retryJob: async () => done({ id: jobId, version: 3, status: 'queued' as const }),
    discardJob: async () => done({ id: jobId, version: 4, status: 'failed' as const }),
    foreseeChange: async () => ({ ok: true as const, status: 'queued' as const, changes: true }),
    listDeadLetters: async () => [],
    findDeadLetter: async () => undefined,
    failedAttempts: async () => [],
    countWaiting: async () => new Map<string, number>(),
    settleLetters: async () => done({ id: jobId, version: 1, status: 'queued' as const }),
    foreseeSettling: async () => ({ count: 0, ids: [] }),
    findJob: async () => undefined,
    waitForWrites: async () => {},
    listJobs: async () => [],
    jobAsOf: async () => undefined,
    readHistory: async () => [],
    followJob: async function* () {},
    findExport: async () => undefined,
    readQueues: async () => [],
    pauseQueue: async () => done({ id: 'default' as const, version: 1, paused: true }),
    resumeQueue: async () => done({ id: 'default' as const, version: 2, paused: false }),
    groupOfReadModel: (name: string) => (name === 'jobs' ? 'projection:jobs@2' : undefined),
    changeGroup: async () => done({ id: 'notifier', version: 1, paused: true }),
    foreseeGroupChange: async () => ({ ok: true as const, changes: true }),
    lastRebuild: async (name: string) => (name === 'jobs' ? rebuildOfJobs : undefined),
    foreseeRebuild: async () => ({ ok: true as const, events: 12 }),
    foreseeCancel: async () => ({ ok: true as const, rebuild: rebuildOfJobs }),
    foreseeVerification: async () => ({ ok: true as const, events: 12 }),
    verify: async () => done({ id: jobId, version: 1, status: 'queued' as const }),
    rebuild: async () => done(rebuildOfJobs),
    cancel: async () => done({ ...rebuildOfJobs, phase: 'cancelled' as const }),
    foreseeReplay: async () => ({
      ok: true as const,
      plan: {
        ...{ digest: 'd', from: '2026-11-20T00:00:00.000Z', to: '2026-11-21T00:00:00.000Z' },
        ...{ events: 0, types: {}, partitions: [], jobs: {}, sample: [] },
      },
    }),
    requestReplay: async () => done({ id: jobId, version: 1, status: 'queued' as const }),
    shortestPauseSeconds: 60,
    createSchedule: async () => done({ id: scheduleId, version: 1 }),
    deleteSchedule: async () => done({ id: scheduleId, version: 2 }),
    findSchedule: async () => undefined,
    listSchedules: async () => [],
    listOperations: async () => [],
    readStanding: async () => standing,
    listParked: async () => undefined,
    partitions: 4,
    readFeed: async () => ({ events: [], end: [], more: false, whole: true }),
    placesNow: async () => [],
    followFeed: async function* () {},
    followStream: async function* () {},
    blobSecret: secret,
    secret,
    blobs: {
      read: () => Promise.reject(new Error('no blobs here')),
      stat: async () => undefined,
    },
    watchReadModel: pollReadModel,
    checkSession: async () => 'active' as const,
    ready: async () => ({ ok: true, checks: { redis: { ok: true } } }),
    tokenKeys: tokens.keys,
    ...overrides,
  };
  return edge({
    streams,
    ...server,
    routes: [
      accountRoutes(deps),
      sessionRoutes(deps),
      erasureRoutes(deps),
      streamTicketRoutes(deps),
      jobRoutes(deps),
      exportRoutes(deps),
      scheduleRoutes(deps),
      webhookRoutes({ secretOf: webhookSecrets(hmac) }),
      queueRoutes(deps),
      groupRoutes(deps),
      rebuildRoutes(deps),
      verificationRoutes(deps),
      replayRoutes(deps),
      deadLetterRoutes(deps),
      operationRoutes(deps),
      eventRoutes(deps),
      standingRoutes(deps),
      blobRoutes(deps),
      metaRoutes(deps),
    ],
  });
}

export function done<B>(body: B): Done<B> {
  return { kind: 'done', body, position: '3.1.7', replayed: false, durability: 'memory' };
}
