import type { JobDeps } from '../commands/jobs/taken.ts';
import type { TickDeps } from '../commands/schedules.ts';
import { JobQueue } from '../domain/jobs/events.ts';
import { type Cancellations, createCancellations } from './cancellations.ts';
import { type Concurrency, createConcurrency } from './concurrency.ts';
import type { JobDefinition } from './define-job.ts';
import type { SpawnChild } from './in-child.ts';
import { runJob } from './job-runner.ts';
import { startLane } from './lane.ts';
import type { Group } from './ownership.ts';
import { limitedSlots } from './queue-limit.ts';
import { type PausedQueues, watchQueues } from './queues.ts';
import { createQuickTypes } from './quick-types.ts';
import { type RoleDeps, type RunningRole, startRole } from './role.ts';
import { schedulesGroup } from './schedules.ts';
import { NO_SEALS, type Seals } from './seals.ts';
import { shareByPartition } from './shared.ts';
import { createSlots } from './slots.ts';
import { type JobToRun, PRIORITIES, workStreams } from './take.ts';
import { timersGroup } from './timers.ts';
import { createUnknownTypes } from './unknown-types.ts';
import { openWaker, WAKE_BLOCK_MS } from './waker.ts';

export type WorkerDeps = RoleDeps &
  Omit<JobDeps, 'store'> &
  Pick<TickDeps, 'hmac'> & {
    readonly jobs: readonly JobDefinition[];
    /** Without it nothing is sealed or opened. */
    readonly seals?: Seals;
    /** Jobs at once in this process. */
    readonly concurrency: number;
    /**
     * Starts a process for a job to run alone in, since a run of it ended without a word; see `serveRun`. Without it such
     * jobs run here, where they may do so again.
     */
    readonly spawn?: SpawnChild;
    /** Processes at once for jobs that run alone. Default 1. */
    readonly mostChildren?: number;
    /**
     * How long stopping may take: running jobs may end until then, and are told to at three quarters of it; what
     * has not ended is left to the next owner.
     */
    readonly drainMs: number;
    /** A job that is over within so many ms has its start and its end in one commit, once its type is known for it. Default 10. */
    readonly soonMs?: number | undefined;
    /** 0 ≤ n < 1: for the jitter of retries. */
    readonly random: () => number;
    /** Jobs at once of a queue, over all processes; without one there is no limit. */
    readonly queueLimits?: ReadonlyMap<string, number>;
    /** How long a slot of a limit lasts unless it is renewed. Default 30,000. */
    readonly slotMs?: number;
  };

/** Jobs whose end is being recorded, in one process: they run again if it dies now, and share their commits. */
const MOST_UNRECORDED = 200;

/** Stored in leases: a name for life. */
export function laneGroup(queue: string): string {
  return `lane:${queue}`;
}

/** Runs jobs: one lane for each queue and partition that it owns, the timers that lead back to them, and schedules. */
export async function startWorkers(deps: WorkerDeps): Promise<RunningRole> {
  const { store, connections, logger } = deps;
  const definitions = new Map(deps.jobs.map((job) => [job.type, job]));
  const queues = [...new Set(deps.jobs.map(({ queue }) => queue))];
  const slots = createSlots(deps.concurrency);
  const unrecorded = createSlots(deps.concurrency + MOST_UNRECORDED);
  const children = deps.spawn && { spawn: deps.spawn, slots: createSlots(deps.mostChildren ?? 1) };
  const limitOf = (queue: string) => {
    const most = deps.queueLimits?.get(queue);
    return most === undefined ? undefined : { name: `queue.${queue}`, most };
  };
  const keysOf = (partition: number) => {
    const keys = store.keys[partition];
    if (!keys) throw new Error(`there is no partition ${partition}`);
    return keys;
  };
  const wakerOf = shareByPartition((partition) =>
    openWaker(
      connections.blocking(`work-${partition}`, WAKE_BLOCK_MS),
      queues.flatMap((queue) => PRIORITIES.map((priority) => keysOf(partition).work(queue, priority))),
    ),
  );

  const reconnected = new Set<() => void>();
  const onReady = () => {
    for (const listener of reconnected) listener();
  };
  store.writer.redis.on('ready', onReady);

  let cancellations: Cancellations | undefined;
  let pausedQueues: PausedQueues | undefined;
  let concurrency: Concurrency | undefined;
  const role = await startRole(deps, 'workers', (hints, member) => {
    cancellations = createCancellations(hints, logger);
    const paused = watchQueues({ store, queues, hints, logger });
    pausedQueues = paused;
    const unknownTypes = createUnknownTypes({ ...deps, cancellations });
    const limits = createConcurrency({ store, hints, logger, slotMs: deps.slotMs });
    concurrency = limits;
    const runner = {
      ...deps,
      concurrency: limits,
      cancellations,
      quickTypes: createQuickTypes(deps.soonMs),
      seals: deps.seals ?? NO_SEALS,
      children,
      worker: member,
      onTimer: (partition: number, dueAt: number) => hints.publish('timers', `${partition} ${dueAt}`),
    };
    const lanes = queues.map(
      (queue): Group => ({
        name: laneGroup(queue),
        start(lease) {
          const waker = wakerOf(lease.partition);
          const admission = limitedSlots(slots, limits, limitOf(queue));
          const lane = startLane({
            lease,
            slots: admission,
            unrecorded,
            streams: workStreams(store.writer.redis, keysOf(lease.partition), queue, lease),
            waker: waker.value,
            refusesStarts: () => store.guard.refuses('start'),
            paused: () => paused.has(queue),
            untilResumed: (signal) => paused.untilResumed(queue, signal),
            knows: (type) => definitions.has(type),
            leave: unknownTypes.leave,
            run(job: JobToRun, drain, giveBack) {
              const definition = definitions.get(job.type);
              if (!definition) return Promise.resolve('left');
              return admission.during(job.jobId, lease, () =>
                runJob(runner, definition, job, { lease, drain, giveBack }),
              );
            },
            drainMs: deps.drainMs,
            onReconnect(listener) {
              reconnected.add(listener);
              return () => reconnected.delete(listener);
            },
            logger: logger.child({ group: lease.group, partition: lease.partition }),
          });
          const ended = lane.ended.finally(async () => {
            waker.release();
            await admission.close(lease);
          });
          return { ...lane, ended };
        },
      }),
    );
    const timers = timersGroup({
      redis: store.writer.redis,
      keys: store.keys,
      queues: JobQueue.enum,
      refusesStarts: () => store.guard.refuses('start'),
      hints,
      clock: store.clock,
      metrics: deps.metrics,
      logger,
    });
    return [...lanes, timers, schedulesGroup({ ...deps, hints })];
  });
  return {
    ...role,
    async stop() {
      await role.stop();
      cancellations?.close();
      pausedQueues?.close();
      concurrency?.close();
      store.writer.redis.off('ready', onReady);
    },
  };
}
