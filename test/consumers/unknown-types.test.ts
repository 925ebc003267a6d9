import { expect, it } from 'vitest';
import { cancelJob } from '../../src/commands/jobs/requests.ts';
import type { JobId } from '../../src/domain/ids.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import type { World } from '../support/world.ts';
import { runWorkers, testJob } from './running.ts';
import { commandsOn, enqueue, jobState, openWorld, until } from './support.ts';

async function workersThatKnow(world: World, store: OpenEventStore, ...types: string[]) {
  const metrics = createMetrics({ node: false });
  const jobs = types.map((type) => testJob(async () => null, { type }));
  const { stop } = await runWorkers(world, store, jobs, { metrics });
  const waiting = async (type: string) => {
    const { values } = await metrics.jobsOfUnknownType.get();
    return values.find(({ labels }) => labels.type === type)?.value ?? 0;
  };
  return { stop, waiting };
}

it('A job whose type nobody knows waits, and is counted; it is run when a worker comes that knows it', async () => {
  const { world, store } = await openWorld();
  const old = await workersThatKnow(world, store, 'test');
  const jobs: JobId[] = [];
  for (let i = 0; i < 20; i++) jobs.push(await enqueue(store, { type: 'from-the-future', partition: i % 2 }));
  const known = await enqueue(store);
  await until(async () => expect((await jobState(store, known)).phase).toBe('succeeded'));
  await until(async () => expect(await old.waiting('from-the-future')).toBe(20));
  for (const id of jobs) expect((await jobState(store, id)).phase).toBe('queued');

  await workersThatKnow(world, store, 'test', 'from-the-future');
  await old.stop();
  await until(async () => {
    for (const id of jobs) expect((await jobState(store, id)).phase).toBe('succeeded');
  });
  expect(await old.waiting('from-the-future')).toBe(0);
});

it('A job whose type nobody knows is gone when it is cancelled, before it is taken or after', async () => {
  const { world, store } = await openWorld();
  const { deps, context } = commandsOn(store, world.prefix);
  const wanted = { type: 'from-the-future', owner: 'acc-1' };
  const before = await enqueue(store, wanted);
  await cancelJob(deps, context('acc-1'), { jobId: before, owner: 'acc-1' });
  const workers = await workersThatKnow(world, store, 'test');
  const after = await enqueue(store, wanted);
  await until(async () => expect(await workers.waiting('from-the-future')).toBeGreaterThanOrEqual(1));
  await cancelJob(deps, context('acc-1'), { jobId: after, owner: 'acc-1' });

  const key = store.keys[0]?.work('default', 'normal') ?? '';
  await until(async () => {
    expect(await store.reader.redis.xlen(key)).toBe(0);
    expect((await store.reader.redis.xpending(key, 'lane'))[0]).toBe(0);
    expect(await workers.waiting('from-the-future')).toBe(0);
  });
});
