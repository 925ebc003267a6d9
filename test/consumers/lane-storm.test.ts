import { setTimeout as sleep } from 'node:timers/promises';
import { Type } from 'typebox';
import { expect, it, onTestFinished } from 'vitest';
import { cancelJob, discardJob, retryJob } from '../../src/commands/jobs/requests.ts';
import { defineJob, NoRetryError, SnoozeError } from '../../src/consumers/define-job.ts';
import { startWorkers } from '../../src/consumers/workers.ts';
import type { JobId } from '../../src/domain/ids.ts';
import { eventsInLog } from '../support/log.ts';
import { commandsOn, jobDeps, jobState, openWorld, roleDeps, until } from './support.ts';

const KEYS = 6;
const JOBS = 240;
/** From a job's decision to its commit at most, on a busy machine. */
const AT_ONCE_MS = 100;

/** Mulberry32: the same numbers for the same seed. */
function seeded(seed: number): () => number {
  let a = seed;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

const seed = Number(process.env.STORM_SEED ?? 1);

it('However jobs of a lane end, are put off, cancelled, given up or tried again while workers come and go, every lane goes on in its order', async () => {
  const random = seeded(seed);
  const { world, store } = await openWorld({ partitions: 4 });
  const { deps, context, enqueue } = commandsOn(store, world.prefix);
  /** What ran at once, of one key. */
  const running = new Map<string, JobId>();
  const overlaps: string[] = [];
  const start = async () => {
    const workers = await startWorkers({
      ...roleDeps(world, store),
      ...jobDeps(store),
      ...{ concurrency: 8, drainMs: 400, random: Math.random },
      jobs: [
        defineJob({
          ...{ type: 'test', enqueuedBy: 'accounts', queue: 'default', maxAttempts: 2, timeoutSeconds: 60 },
          ...{ retry: { baseMs: 10, capMs: 40 }, payload: Type.Unknown(), result: Type.Unknown() },
          async run({ job, signal }) {
            const { key, how, ms } = job.payload as { key: string; how: number; ms: number };
            const other = running.get(key);
            if (other !== undefined && other !== job.id) overlaps.push(`${key}: ${other} and ${job.id}`);
            running.set(key, job.id);
            try {
              await sleep(ms, undefined, { signal });
              if (how < 0.15 && job.attempt === 1) throw new Error('once more');
              if (how >= 0.15 && how < 0.22) throw new NoRetryError('hopeless');
              if (how >= 0.22 && how < 0.27 && Date.now() - Date.parse(job.enqueuedAt) < 1_500) {
                return new SnoozeError({ delayMs: 200 });
              }
              return {};
            } finally {
              if (running.get(key) === job.id) running.delete(key);
            }
          },
        }),
      ],
    });
    await workers.ready();
    return workers;
  };
  const fleet = [await start(), await start()];
  onTestFinished(async () => {
    await Promise.all(fleet.map((workers) => workers.stop()));
  });

  const ids: JobId[] = [];
  const touched = new Set<JobId>();
  const phase = async (jobId: JobId) => (await jobState(store, jobId)).phase;
  async function meddle(jobId: JobId): Promise<void> {
    const now = await phase(jobId);
    touched.add(jobId);
    if (now === 'failed') await (random() < 0.5 ? discardJob : retryJob)(deps, context(), { jobId });
    else if (now === 'cancelled' && random() < 0.5) await retryJob(deps, context(), { jobId });
    else await cancelJob(deps, context(), { jobId });
  }
  for (let n = 0; n < JOBS; n++) {
    const key = `k${Math.floor(random() * KEYS)}`;
    const delay =
      random() < 0.3 ? { runAt: new Date(Date.now() + AT_ONCE_MS + random() * 1_200).toISOString() } : {};
    const slots = random() < 0.15 ? { concurrencyKey: 'few', concurrencyLimit: 2 } : {};
    const payload = { key, how: random(), ms: Math.floor(random() * 12) };
    ids.push(await enqueue({ orderingKey: key, payload, ...delay, ...slots }));
    if (random() < 0.2) await meddle(ids[Math.floor(random() * ids.length)] as JobId);
    if (n % 60 === 59) {
      fleet.push(await start());
      await fleet.shift()?.stop();
    }
  }
  // Whoever is dead now is given up: every lane must come to its end.
  await until(async () => {
    const phases = new Set<string>();
    for (const jobId of ids) {
      const now = await phase(jobId);
      if (now === 'failed') await discardJob(deps, context(), { jobId });
      phases.add(now);
    }
    expect(['succeeded', 'failed', 'cancelled']).toEqual(expect.arrayContaining([...phases]));
  }, 60_000);
  expect(overlaps).toEqual([]);
  await until(async () => {
    for (const keys of store.keys) {
      expect(await store.reader.redis.hgetall(keys.blocked('default'))).toEqual({});
      expect(await store.reader.redis.keys(`${keys.parkedLists('default')}:*`)).toEqual([]);
      expect(await store.reader.redis.xlen(keys.work('default', 'normal'))).toBe(0);
      expect(await store.reader.redis.zcard(keys.timers)).toBe(0);
    }
  });
  await inOrder();

  /** Of what nobody meddled with: first starts are in the order of becoming due, ties by position. */
  async function inOrder(): Promise<void> {
    for (const { partition } of store.keys) {
      const lanes = new Map<string, { id: string; due: number; timer: boolean; position: number }[]>();
      const enqueued = new Map<string, { lane: string; due: number; timer: boolean; position: number }>();
      for (const { seq: position, streamId: id, type, data, meta } of await eventsInLog(store, partition)) {
        if (type === 'JobEnqueued') {
          const { lane, runAt } = JSON.parse(data);
          const due = Date.parse(runAt ?? JSON.parse(meta).at);
          enqueued.set(id, { lane, due, timer: runAt !== undefined, position });
        }
        const job = enqueued.get(id);
        if (type !== 'JobStarted' || !job || touched.has(id as JobId)) continue;
        enqueued.delete(id);
        lanes.set(job.lane, [...(lanes.get(job.lane) ?? []), { id, ...job }]);
      }
      for (const begun of lanes.values()) {
        for (const [index, next] of begun.entries()) {
          for (const before of begun.slice(0, index)) {
            // The time of a job for now is that of its commit, which is a little later than what its event says.
            const allowed = next.timer === before.timer ? 0 : AT_ONCE_MS;
            const inTime = before.due - next.due <= allowed;
            const inPlace = before.due !== next.due || before.position < next.position;
            expect(inTime && inPlace, `${JSON.stringify(before)} before ${JSON.stringify(next)}`).toBe(true);
          }
        }
      }
    }
  }
});
