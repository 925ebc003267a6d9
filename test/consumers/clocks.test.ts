import { afterEach, expect, it, vi } from 'vitest';
import { SnoozeError } from '../../src/consumers/define-job.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import type { World } from '../support/world.ts';
import { type Run, runWorkers, testJob } from './running.ts';
import { commandsOn, jobState, openWorld, until } from './support.ts';

const MINUTE = 60_000;

/** The clock of this process, set to another time; everything else goes on. */
function setClock(byMs: number): void {
  if (!vi.isFakeTimers()) vi.useFakeTimers({ toFake: ['Date'], shouldAdvanceTime: true });
  const real = performance.timeOrigin + performance.now();
  vi.setSystemTime(real + byMs);
}
afterEach(() => void vi.useRealTimers());

async function start(world: World, store: OpenEventStore, run: Run, retryMs = 20) {
  const metrics = createMetrics({ node: false });
  const job = testJob(run, { retry: { baseMs: retryMs, capMs: retryMs } });
  await runWorkers(world, store, [job], { metrics, random: () => 0.99 });
  return metrics;
}

/** ms since 1970 as Redis has it. */
async function redisNow(store: OpenEventStore): Promise<number> {
  const [seconds, micros] = await store.writer.redis.time();
  return Number(seconds) * 1000 + Number(micros) / 1000;
}

it('Whatever the clock of a process is set to, its time is that of Redis', async () => {
  setClock(-37 * MINUTE);
  const { store } = await openWorld({ partitions: 1 });
  for (const minutes of [-37, 12, -600, 0]) {
    setClock(minutes * MINUTE);
    expect(Math.abs(store.clock.now().getTime() - (await redisNow(store)))).toBeLessThan(1_000);
  }
});

it.each([10, -10])(
  'A worker whose clock is %i minutes off tries jobs again, and lets them sleep, for as long as they are to wait',
  async (minutes) => {
    setClock(minutes * MINUTE);
    const { world, store } = await openWorld({ partitions: 1 });
    const begun: number[] = [];
    await start(
      world,
      store,
      async ({ job }) => {
        begun.push(performance.now());
        if (begun.length === 1) throw new Error('once more');
        if (begun.length === 2) throw new SnoozeError({ delayMs: 600 });
        expect(job.attempt).toBe(2);
        return {};
      },
      500,
    );
    const { enqueue } = commandsOn(store, world.prefix);
    const jobId = await enqueue({});
    await until(async () => expect((await jobState(store, jobId)).phase).toBe('succeeded'));
    const [first = 0, second = 0, third = 0] = begun;
    expect(second - first).toBeGreaterThan(480);
    expect(second - first).toBeLessThan(8_000);
    expect(third - second).toBeGreaterThan(590);
    expect(third - second).toBeLessThan(8_000);
  },
);

it.each([90, -90])(
  'A clock that jumps by %i minutes while timers are waited for makes none of them late or early',
  async (minutes) => {
    setClock(0);
    const { world, store } = await openWorld({ partitions: 1 });
    const begun = new Map<unknown, number>();
    const metrics = await start(world, store, async ({ job }) => {
      begun.set(job.payload, await redisNow(store));
      return {};
    });
    const { enqueue } = commandsOn(store, world.prefix);
    const runAt = (ms: number) => new Date(Math.ceil(due + ms)).toISOString();
    const due = (await redisNow(store)) + 1_200;
    const ids = [await enqueue({ payload: 'set before', runAt: runAt(0) })];
    setClock(minutes * MINUTE);
    ids.push(await enqueue({ payload: 'earlier, set after', runAt: runAt(-600) }));
    ids.push(await enqueue({ payload: 'later, set after', runAt: runAt(300) }));
    await until(async () => {
      for (const id of ids) expect((await jobState(store, id)).phase).toBe('succeeded');
    });
    for (const [payload, ms] of [
      ['earlier, set after', -600],
      ['set before', 0],
      ['later, set after', 300],
    ] as const) {
      const late = (begun.get(payload) ?? 0) - due - ms;
      expect(late, payload).toBeGreaterThanOrEqual(-1);
      expect(late, payload).toBeLessThan(5_000); // clocks are off by minutes
    }
    const { body } = await metrics.render(undefined);
    expect(body).toMatch(/millrace_timer_lag_seconds_count 3\n/);
  },
);
