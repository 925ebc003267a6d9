import { randomBytes } from 'node:crypto';
import { pino } from 'pino';
import type { Static } from 'typebox';
import { onTestFinished, vi } from 'vitest';
import { type CommandContext, changeOf, encodeChange } from '../../src/commands/handle.ts';
import { enqueueJob as enqueueByCommand, type JobCommandDeps } from '../../src/commands/jobs/requests.ts';
import { openRun, recordStart } from '../../src/commands/jobs/runs.ts';
import type { TakenJob } from '../../src/commands/jobs/taken.ts';
import { publishHint } from '../../src/consumers/hints.ts';
import type { RoleDeps } from '../../src/consumers/role.ts';
import { type JobId, partitionOf, type StreamId, streamId } from '../../src/domain/ids.ts';
import type { JobEnqueued, JobPriority } from '../../src/domain/jobs/events.ts';
import { enqueueJob } from '../../src/domain/jobs/requests.ts';
import { type Job, jobFold } from '../../src/domain/jobs/state.ts';
import { createEventStore, type OpenEventStore } from '../../src/eventstore/store.ts';
import { parseWork } from '../../src/eventstore/work-text.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { connectionsTo, randomText, testHmac } from '../support/connections.ts';
import { eventsInLog } from '../support/log.ts';
import { createWorld, type World } from '../support/world.ts';

export const quiet = pino({ level: process.env.TEST_LOG_LEVEL ?? 'silent' });

/** A world with an open store of few partitions; both end with the test. */
export async function openWorld(
  options: { partitions?: number; redisUrl?: string } = {},
): Promise<{ world: World; store: OpenEventStore }> {
  const { redisUrl } = options;
  const world = await createWorld(redisUrl === undefined ? {} : { redisUrl });
  onTestFinished(() => world.dispose());
  const store = await openStore(world, options.partitions);
  return { world, store };
}

export async function openStore(
  world: Pick<World, 'redisUrl' | 'db' | 'prefix'>,
  partitions = 2,
): Promise<OpenEventStore> {
  const store = await createEventStore({
    redisUrl: world.redisUrl,
    db: world.db,
    prefix: world.prefix,
    partitions,
    name: 'test',
  });
  onTestFinished(() => store.close());
  return store;
}

export function roleDeps(world: World, store: OpenEventStore, instanceId = randomText(6)): RoleDeps {
  return {
    instanceId,
    prefix: world.prefix,
    store,
    db: world.db,
    connections: connectionsTo(world.redisUrl),
    metrics: createMetrics({ node: false }),
    logger: quiet.child({ instanceId }),
  };
}

export const jobDeps = (store: OpenEventStore) => ({
  store,
  now: store.clock.now,
  randomText,
  hmac: testHmac,
  traceCommit: <T>(_: number, run: (traceparent: string | undefined) => Promise<T>) => run(undefined),
});

/** The commands of jobs, as the API has them. */
export function commandsOn(store: OpenEventStore, prefix: string) {
  const hint = (topic: 'timers' | 'cancels', text: string) =>
    publishHint(store.writer.redis, prefix, topic, text);
  const deps: JobCommandDeps = {
    ...jobDeps(store),
    idempotencyRetentionMs: 60_000,
    awaitDurability: async () => true,
    hint: {
      timer: (partition, dueAt) => hint('timers', `${partition} ${dueAt}`),
      cancel: (jobId) => hint('cancels', jobId),
    },
  };
  const context = (owner?: string): CommandContext => ({
    ...{ actor: 'test', correlation: randomText(8), durability: 'memory' },
    ...(owner ? { owner } : {}),
  });
  const enqueue = async (job: Partial<Static<typeof JobEnqueued>>, owner?: string): Promise<JobId> => {
    const wanted = { type: 'test', payload: {}, queue: 'default', priority: 'normal' } as const;
    const done = await enqueueByCommand(deps, context(owner), {
      ...{ ...wanted, maxAttempts: 3, timeoutSeconds: 60 },
      ...job,
    });
    if (done.kind !== 'done') throw new Error(done.kind);
    return done.body.id;
  };
  return { deps, context, enqueue };
}

/** Enqueues a job as a command would: its event, its state and its work in one commit. */
export async function enqueue(
  store: OpenEventStore,
  options: {
    partition?: number;
    payload?: unknown;
    type?: string;
    queue?: 'default' | 'exports';
    priority?: JobPriority;
    maxAttempts?: number;
    timeoutSeconds?: number;
    owner?: string;
  } = {},
): Promise<JobId> {
  const { partition = 0, type = 'test', priority = 'normal', queue = 'default' } = options;
  const jobId = streamId('job', partition, randomText(20));
  const context = {
    actor: 'test',
    correlation: randomText(8),
    ...(options.owner ? { owner: options.owner } : {}),
  };
  const decided = enqueueJob(jobFold.initial, {
    type,
    payload: options.payload ?? {},
    queue,
    priority,
    maxAttempts: options.maxAttempts ?? 3,
    timeoutSeconds: options.timeoutSeconds ?? 60,
  });
  if (!decided.ok) throw new Error(decided.refusal.detail);
  const stream = {
    streamId: jobId,
    state: jobFold.initial,
    version: 0,
    expected: { kind: 'minted' as const },
  };
  const now = new Date();
  const change = changeOf(context, now.toISOString(), stream, jobFold, decided.events);
  const outcome = await store.commit({
    partition,
    appends: [encodeChange({ randomText }, context, change)],
    work: [{ queue, priority, jobId, type, dueAt: now.getTime() }],
  });
  if (outcome.kind !== 'committed') throw new Error(outcome.kind);
  return jobId;
}

/** Appends plain events to fresh streams of a partition: `count` commits of one event. */
export async function appendEvents(
  store: OpenEventStore,
  partition: number,
  count: number,
  data: (index: number) => unknown = (index) => ({ accountId: `a${index}` }),
): Promise<StreamId[]> {
  return Promise.all(
    Array.from({ length: count }, async (_, index) => {
      const id = streamId('email', partition, randomBytes(16).toString('hex'));
      const meta = { schema: 1, at: new Date().toISOString(), actor: 'test', correlation: 'c' };
      const outcome = await store.commit({
        partition,
        appends: [
          {
            streamId: id,
            expected: { kind: 'minted' },
            events: [
              {
                id: randomText(16) as never,
                type: 'EmailClaimed',
                data: JSON.stringify(data(index)),
                meta: JSON.stringify(meta),
              },
            ],
            state: { json: '{"phase":"claimed","accountId":"x"}', fold: 1 },
          },
        ],
      });
      if (outcome.kind !== 'committed') throw new Error(outcome.kind);
      return id;
    }),
  );
}

export async function jobState(store: OpenEventStore, jobId: JobId): Promise<Job> {
  return (await store.load(jobId, jobFold)).state;
}

export function until<T>(check: () => T | Promise<T>, timeout = 10_000): Promise<T> {
  return vi.waitFor(check, { timeout, interval: 20 });
}

/** Takes a job's one work entry as the owner of its lane would, whose lease this takes for a moment. */
export async function takeEntry(store: OpenEventStore, jobId: JobId): Promise<TakenJob> {
  const keys = store.keys[partitionOf(jobId)];
  if (!keys) throw new Error('no such partition');
  const { redis } = store.writer;
  const lease = { group: 'lane:default', token: 7 };
  await redis.hset(keys.lease(lease.group), { owner: 'dead#1', token: lease.token });
  const entries = await redis.xrange(keys.work('default', 'normal'), '-', '+');
  const all = entries.map(([entryId, [, text = '']]) => ({ entryId, work: parseWork(text) }));
  const mine = all.filter(({ work }) => work?.jobId === jobId);
  const [{ entryId = '', work } = {}] = mine;
  if (!work || mine.length !== 1) throw new Error(`${jobId} has ${mine.length} entries`);
  return { jobId, queue: 'default', priority: 'normal', entryId, dueAt: work.dueAt, lease };
}

/** A job whose worker died while it ran: its start is recorded, and no end. */
export async function orphan(
  store: OpenEventStore,
  options: Parameters<typeof enqueue>[1] = {},
): Promise<JobId> {
  const jobId = await enqueue(store, options);
  const taken = await takeEntry(store, jobId);
  const opened = await openRun(jobDeps(store), taken);
  if (opened.kind !== 'recorded') throw new Error(opened.kind);
  const started = await recordStart(jobDeps(store), opened.run, 'dead#1');
  if (started.kind !== 'recorded') throw new Error(started.kind);
  await store.writer.redis.del(store.keys[partitionOf(jobId)]?.lease(taken.lease.group) ?? '');
  return jobId;
}

/** The events of a job that are still in the log. */
export async function history(store: OpenEventStore, jobId: JobId) {
  return (await eventsInLog(store, partitionOf(jobId)))
    .filter(({ streamId }) => streamId === jobId)
    .map(({ type, data }) => ({ type, data: JSON.parse(data) }));
}
