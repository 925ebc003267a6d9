import { expect, it } from 'vitest';
import {
  openRun,
  phaseOf,
  recordCompletion,
  recordFailure,
  recordInterruption,
  recordProgress,
  recordSnooze,
  recordStart,
} from '../../src/commands/jobs/runs.ts';
import { enqueue, history, jobDeps, jobState, openWorld, takeEntry } from './support.ts';

function runOf(recorded: Awaited<ReturnType<typeof openRun>>) {
  if (recorded.kind !== 'recorded') throw new Error(recorded.kind);
  return recorded.run;
}

async function taken() {
  const { store } = await openWorld();
  const deps = jobDeps(store);
  const jobId = await enqueue(store);
  const entry = await takeEntry(store, jobId);
  const start = async () => runOf(await recordStart(deps, runOf(await openRun(deps, entry)), 'w'));
  return { store, deps, jobId, entry, start };
}

it('A run that lingers can say nothing of a job that was started again, under the same lease', async () => {
  const { store, deps, jobId, start } = await taken();
  const lingering = await start();
  const newer = await start();
  const failure = {
    error: { name: 'Error', message: 'no' },
    ...{ retryAt: new Date(), final: true, worker: 'w', ignoredAbort: false },
  };
  for (const said of [
    await recordCompletion(deps, lingering, 'late'),
    await recordFailure(deps, lingering, failure),
    await recordProgress(deps, lingering, 50),
    await recordSnooze(deps, lingering, new Date()),
    await recordInterruption(deps, lingering, 'w'),
  ]) {
    expect(said).toEqual({ kind: 'lease_lost' });
  }
  expect(phaseOf(runOf(await recordCompletion(deps, newer, 'right')))).toBe('succeeded');
  expect((await history(store, jobId)).at(-1)?.data.result).toBe('right');
});

it('A run that was opened before another began does not begin beside it', async () => {
  const { store, deps, jobId, entry, start } = await taken();
  const slow = runOf(await openRun(deps, entry));
  await start();
  expect(await recordStart(deps, slow, 'w')).toEqual({ kind: 'lease_lost' });
  expect((await history(store, jobId)).map(({ type }) => type)).toEqual(['JobEnqueued', 'JobStarted']);
});

it('An interrupted run leaves its work entry, however often that is said and whatever comes after', async () => {
  const { store, deps, jobId, start } = await taken();
  const run = await start();
  expect(phaseOf(runOf(await recordInterruption(deps, run, 'w')))).toBe('queued');
  // Once more from the state before, as after a reply that was lost.
  expect(phaseOf(runOf(await recordInterruption(deps, run, 'w')))).toBe('queued');
  expect(await recordCompletion(deps, run, 'late')).toEqual({ kind: 'lease_lost' });
  const again = runOf(await openRun(deps, await takeEntry(store, jobId)));
  expect(again).toMatchObject({ attempt: 1, recovered: false, alone: false });
  expect((await history(store, jobId)).map(({ type }) => type)).toEqual([
    'JobEnqueued',
    'JobStarted',
    'JobInterrupted',
  ]);
});

it('A snoozed run gives its work entry up for a timer, and is no attempt', async () => {
  const { store, deps, jobId, start } = await taken();
  const until = new Date(Date.now() + 3_600_000);
  expect(phaseOf(runOf(await recordSnooze(deps, await start(), until)))).toBe('scheduled');
  expect(await jobState(store, jobId)).toMatchObject({ attempts: 0, dueAt: until.getTime() });
  await expect(takeEntry(store, jobId)).rejects.toThrow('has 0 entries');
});

it('A worker whose lease is lost records no interruption: the job is another’s by then', async () => {
  const { store, deps, jobId, start } = await taken();
  const run = await start();
  const lease = store.keys[0]?.lease('lane:default') ?? '';
  await store.writer.redis.hset(lease, { owner: 'other#1', token: 8 });
  expect(await recordInterruption(deps, run, 'w')).toEqual({ kind: 'lease_lost' });
  expect(await jobState(store, jobId)).toMatchObject({ phase: 'running', attempts: 1 });
});
