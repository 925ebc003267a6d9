import { once } from 'node:events';
import { describe, expect, it, onTestFinished } from 'vitest';
import { createSchedule, deleteSchedule, type ScheduleCommandDeps } from '../../src/commands/schedules.ts';
import { openHints } from '../../src/consumers/hints.ts';
import { startWorkers, type WorkerDeps } from '../../src/consumers/workers.ts';
import { type JobId, partitionOf, type ScheduleId } from '../../src/domain/ids.ts';
import type { MissedRuns } from '../../src/domain/schedules.ts';
import { connectSubscriber } from '../../src/eventstore/connections.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { eventsInLogs } from '../support/log.ts';
import { testJob } from '../support/test-jobs.ts';
import type { World } from '../support/world.ts';
import { PARTITIONS, startWorker } from './processes.ts';
import { jobDeps, jobState, openWorld, roleDeps, until } from './support.ts';

const SECOND = 1_000;
const MINUTE = 60 * SECOND;
const EVERY_SECOND = '* * * * * *';
const EVERY_MINUTE = '* * * * *';
const context = { actor: 'acc-1', owner: 'acc-1', correlation: 'test', durability: 'memory' } as const;

/** Commands as the API has them; its clock is `behindMs` behind. */
async function openCommands(world: World, store: OpenEventStore, behindMs = 0): Promise<ScheduleCommandDeps> {
  const subscriber = connectSubscriber({ url: world.redisUrl, name: 'hints' });
  const hints = await openHints({ publisher: store.writer.redis, subscriber }, world.prefix, []);
  onTestFinished(() => hints.close());
  return {
    ...jobDeps(store),
    now: () => new Date(Date.now() - behindMs),
    idempotencyRetentionMs: MINUTE,
    awaitDurability: async () => true,
    hint: { tick: (partition, at) => hints.publish('ticks', `${partition} ${at}`) },
  };
}

async function schedule(
  deps: ScheduleCommandDeps,
  cron: string,
  missed: MissedRuns = 'all',
  payload: object = { ms: 0 },
): Promise<ScheduleId> {
  const made = await createSchedule(deps, context, {
    ...{ cron, timezone: 'UTC', missed },
    job: {
      ...{ type: 'test', payload, queue: 'default', priority: 'normal' },
      ...{ maxAttempts: 3, timeoutSeconds: 60 },
    },
  });
  if (made.kind !== 'done') throw new Error(made.kind);
  return made.body.id;
}

async function start(world: World, store: OpenEventStore, more: Partial<WorkerDeps> = {}) {
  const workers = await startWorkers({
    ...roleDeps(world, store),
    ...jobDeps(store),
    jobs: [testJob('here', async () => {})],
    ...{ concurrency: 4, drainMs: SECOND, random: Math.random },
    ...more,
  });
  onTestFinished(() => workers.stop());
  await workers.ready();
  return workers;
}

type Run = { readonly at: number; readonly jobId: JobId };

/** The runs that were enqueued, by schedule and in order: the tick (ms since 1970) and the job of each. */
async function allEnqueued(store: OpenEventStore): Promise<Map<string, Run[]>> {
  const found = new Map<string, Run[]>();
  for (const { type, streamId, data } of await eventsInLogs(store)) {
    if (type !== 'JobEnqueued') continue;
    const { schedule: its } = JSON.parse(data);
    const run = { jobId: streamId as JobId, at: Date.parse(its.tick) };
    found.set(its.id, [...(found.get(its.id) ?? []), run]);
  }
  return found;
}

async function enqueued(store: OpenEventStore, id: ScheduleId): Promise<readonly Run[]> {
  return (await allEnqueued(store)).get(id) ?? [];
}

/** One run for each second, none left out, none twice. */
function expectEverySecond(ticks: readonly Run[]): void {
  const first = ticks[0]?.at ?? 0;
  expect(ticks.map(({ at }) => at)).toEqual(ticks.map((_, index) => first + index * SECOND));
  expect(new Set(ticks.map(({ jobId }) => jobId)).size).toBe(ticks.length);
}

describe('A schedule', () => {
  it('runs in time, although nobody looked for it since', async () => {
    const { world, store } = await openWorld();
    const deps = await openCommands(world, store);
    await start(world, store);
    const id = await schedule(deps, EVERY_SECOND);
    const [first, second] = await until(async () => {
      const found = await enqueued(store, id);
      expect(found.length).toBeGreaterThan(1);
      return found;
    });
    expect(second?.at).toBe((first?.at ?? 0) + SECOND);
    await until(async () => {
      for (const run of [first, second]) {
        expect(run && (await jobState(store, run.jobId)).phase).toBe('succeeded');
      }
    });
  });

  it('runs by the clock of Redis, whatever those of the workers say', async () => {
    const { world, store } = await openWorld();
    const deps = await openCommands(world, store);
    await start(world, store, { now: () => new Date(Date.now() - 60 * MINUTE) });
    const id = await schedule(deps, EVERY_SECOND);
    await until(async () => expect((await enqueued(store, id)).length).toBeGreaterThan(1));
    expectEverySecond(await enqueued(store, id));
  });

  it('that is deleted stops; the run under way goes on', async () => {
    const { world, store } = await openWorld();
    const deps = await openCommands(world, store);
    const id = await schedule(deps, EVERY_SECOND, 'all', { ms: 1_500 });
    await start(world, store);
    const run = await until(async () => {
      const [first] = await enqueued(store, id);
      expect(first && (await jobState(store, first.jobId)).phase).toBe('running');
      return first;
    });
    await deleteSchedule(deps, context, { scheduleId: id, owner: 'acc-1' });
    const before = await enqueued(store, id);
    await until(async () => expect(run && (await jobState(store, run.jobId)).phase).toBe('succeeded'));
    expect(await enqueued(store, id)).toEqual(before);
  });

  it('that can not be read any more is put aside, and the others tick', async () => {
    const { world, store } = await openWorld();
    const deps = await openCommands(world, store, 10 * MINUTE);
    const [broken, whole] = [await schedule(deps, EVERY_MINUTE), await schedule(deps, EVERY_MINUTE, 'once')];
    for (const id of [broken, whole]) {
      const keys = store.keys[partitionOf(id)];
      const state = await store.reader.redis.get(keys?.state(id) ?? '');
      if (id === broken) {
        await store.writer.redis.set(keys?.state(id) ?? '', String(state).replace(EVERY_MINUTE, 'what?'));
      }
    }
    const metrics = roleDeps(world, store).metrics;
    await start(world, store, { metrics });
    await until(async () => expect(await enqueued(store, whole)).toHaveLength(1));
    await until(async () =>
      expect((await metrics.render(undefined)).body).toContain('millrace_schedule_failures_total 1'),
    );
    const ticks = store.keys[partitionOf(broken)]?.ticks ?? '';
    expect(Number(await store.reader.redis.zscore(ticks, broken))).toBeGreaterThan(Date.now() + 50 * SECOND);
  });
});

describe('When no worker was there for five ticks', () => {
  /** Ticks once a minute, the last time ten seconds ago. */
  async function afterAnAbsence(missed: MissedRuns) {
    const { world, store } = await openWorld();
    const last = new Date(Math.floor(Date.now() / SECOND) * SECOND - 10 * SECOND);
    const missedTicks = [4, 3, 2, 1, 0].map((ago) => last.getTime() - ago * MINUTE);
    const minutes = missedTicks.map((tick) => new Date(tick).getUTCMinutes());
    const deps = await openCommands(world, store, 5 * MINUTE);
    const id = await schedule(deps, `${last.getUTCSeconds()} ${minutes.join(',')} * * * *`, missed);
    await start(world, store);
    const ticks = store.keys[partitionOf(id)]?.ticks ?? '';
    await until(async () =>
      expect(Number(await store.reader.redis.zscore(ticks, id))).toBeGreaterThan(Date.now()),
    );
    return { ran: (await enqueued(store, id)).map(({ at }) => at), missedTicks };
  }

  it('`skip` goes on with the one that is in time', async () => {
    const { ran, missedTicks } = await afterAnAbsence('skip');
    expect(ran).toEqual(missedTicks.slice(-1));
  });

  it('`once` makes up for all with one run', async () => {
    const { ran, missedTicks } = await afterAnAbsence('once');
    expect(ran).toEqual(missedTicks.slice(-1));
  });

  it('`all` makes up for each, in order', async () => {
    const { ran, missedTicks } = await afterAnAbsence('all');
    expect(ran).toEqual(missedTicks);
  });
});

describe('Three worker processes', () => {
  /** As many as keep a worker busy for some ms after each second. */
  async function manySchedules() {
    const { world, store } = await openWorld({ partitions: PARTITIONS });
    const deps = await openCommands(world, store);
    const ids = await Promise.all(Array.from({ length: 80 }, () => schedule(deps, EVERY_SECOND)));
    return { world, store, ids };
  }

  async function untilAllTickedAt(store: OpenEventStore, ids: readonly ScheduleId[], time: number) {
    return until(async () => {
      const runs = await allEnqueued(store);
      for (const id of ids) expect(runs.get(id)?.at(-1)?.at).toBeGreaterThanOrEqual(time);
      return runs;
    }, 40_000);
  }

  it('enqueue one run a tick between them', async () => {
    const { world, store, ids } = await manySchedules();
    await Promise.all(['one', 'two', 'three'].map((name) => startWorker(world, name)));
    const ran = await untilAllTickedAt(store, ids, Date.now() + 3 * SECOND);
    for (const id of ids) expectEverySecond(ran.get(id) ?? []);
  });

  it('lose no tick and double none, killed one after another in the midst of their ticks', async () => {
    const { world, store, ids } = await manySchedules();
    const names = ['one', 'two', 'three'];
    const workers = new Map(
      await Promise.all(names.map(async (name) => [name, await startWorker(world, name)] as const)),
    );
    for (const [index, name] of [...names, ...names].entries()) {
      // Aimed at the time that the ticks of a second take.
      const second = SECOND - (Date.now() % SECOND);
      await new Promise((resolve) => setTimeout(resolve, second + 5 + 8 * index));
      const worker = workers.get(name);
      worker?.kill('SIGKILL');
      if (worker) await once(worker, 'exit');
      workers.set(name, await startWorker(world, name));
    }
    const ran = await untilAllTickedAt(store, ids, Date.now() + 2 * SECOND);
    for (const id of ids) expectEverySecond(ran.get(id) ?? []);
  });
});
