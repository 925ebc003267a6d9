import { expect, test } from 'vitest';
import { registerAccount } from '../../src/commands/accounts.ts';
import { eraseAccount } from '../../src/commands/erasures.ts';
import { enqueueJob, type JobCommandDeps } from '../../src/commands/jobs/requests.ts';
import {
  createSchedule,
  deleteSchedule,
  type ScheduleCommandDeps,
  type ScheduleWanted,
  tickSchedule,
} from '../../src/commands/schedules.ts';
import type { RawEvent } from '../../src/domain/event.ts';
import { partitionOf, type ScheduleId } from '../../src/domain/ids.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { parseWork } from '../../src/eventstore/work-text.ts';
import { eventsInLog } from '../support/log.ts';
import { context, writeSide } from './support.ts';

const MINUTE = 60_000;
const wanted: ScheduleWanted = {
  cron: '* * * * *',
  timezone: 'UTC',
  missed: 'skip',
  job: {
    type: 'echo',
    payload: { a: 1 },
    queue: 'default',
    priority: 'normal',
    maxAttempts: 3,
    timeoutSeconds: 60,
  },
};
const owned = { ...context(), owner: 'acc-1' };
const lease = { group: 'schedules', token: 7 };

async function setUp() {
  const { store, deps, world } = await writeSide();
  const hinted: [number, number][] = [];
  const commands: typeof deps & ScheduleCommandDeps & JobCommandDeps = {
    ...deps,
    hint: { tick: (...told) => hinted.push(told), timer: () => {}, cancel: () => {} },
  };
  for (const keys of store.keys) await store.writer.redis.hset(keys.lease('schedules'), 'token', 7);
  return { store, deps: commands, world, hinted };
}

async function create(deps: ScheduleCommandDeps, input = wanted): Promise<{ id: ScheduleId; next: number }> {
  const made = await createSchedule(deps, owned, input);
  if (made.kind !== 'done') throw new Error(made.kind);
  return { id: made.body.id, next: Date.parse(made.body.nextRunAt ?? '') };
}

async function eventsOf(store: OpenEventStore, id: ScheduleId): Promise<RawEvent[]> {
  return store.history(id, { limit: 1000 });
}

async function runsOf(store: OpenEventStore, id: ScheduleId) {
  return (await eventsInLog(store, partitionOf(id)))
    .filter(({ type }) => type === 'JobEnqueued')
    .map(({ streamId, data, meta }) => ({ id: streamId, data: JSON.parse(data), meta: JSON.parse(meta) }))
    .filter(({ data }) => data.schedule?.id === id);
}

test('A schedule is made once for a request and its retries', async () => {
  const { deps, store, hinted } = await setUp();
  const asked = { ...context('key'), owner: 'acc-1' };
  const first = await createSchedule(deps, asked, wanted);
  const again = await createSchedule(deps, asked, wanted);
  if (first.kind !== 'done' || again.kind !== 'done') throw new Error('refused');
  expect(again).toMatchObject({ body: first.body, replayed: true });
  expect(await eventsOf(store, first.body.id)).toHaveLength(1);
  const partition = partitionOf(first.body.id);
  expect(hinted[0]).toEqual([partition, Date.parse(first.body.nextRunAt ?? '')]);
  expect(await store.reader.redis.zcard(store.keys[partition]?.ticks ?? '')).toBe(1);
});

test('Eight at once tick a schedule: one of them enqueues its run, which carries owner and tick', async () => {
  const { deps, store } = await setUp();
  const { id, next } = await create(deps);
  const outcomes = await Promise.all(
    Array.from({ length: 8 }, () => tickSchedule(deps, { scheduleId: id, now: next, lease })),
  );
  expect(outcomes.filter(({ kind }) => kind === 'ticked')).toHaveLength(1);
  const tick = new Date(next).toISOString();
  const [run, ...others] = await runsOf(store, id);
  expect(others).toEqual([]);
  expect(run).toMatchObject({
    data: { ...wanted.job, schedule: { id, tick } },
    meta: { owner: 'acc-1', actor: 'system:schedules', correlation: run?.id },
  });
  const keys = store.keys[partitionOf(id)];
  expect(await store.reader.redis.xlen(keys?.work('default', 'normal') ?? '')).toBe(1);
  expect(await store.reader.redis.zscore(keys?.ticks ?? '', id)).toBe(String(next + MINUTE));
});

test('A tick that comes again, late, finds that it was dealt with', async () => {
  const { deps, store } = await setUp();
  const { id, next } = await create(deps);
  for (let times = 0; times < 3; times++) await tickSchedule(deps, { scheduleId: id, now: next, lease });
  expect(await runsOf(store, id)).toHaveLength(1);
});

test('Who lost the partition enqueues nothing', async () => {
  const { deps, store } = await setUp();
  const { id, next } = await create(deps);
  const stale = { ...lease, token: 6 };
  expect(await tickSchedule(deps, { scheduleId: id, now: next, lease: stale })).toEqual({
    kind: 'lease_lost',
  });
  expect(await runsOf(store, id)).toEqual([]);
});

test('Runs that are made up for are enqueued in the order of their ticks', async () => {
  const { deps, store } = await setUp();
  const { id, next } = await create(deps, { ...wanted, missed: 'all' });
  const now = next + 24 * MINUTE;
  for (let times = 0; times < 3; times++) await tickSchedule(deps, { scheduleId: id, now, lease });
  const ticks = (await runsOf(store, id)).map(({ data }) => Date.parse(data.schedule.tick));
  expect(ticks).toEqual(Array.from({ length: 25 }, (_, index) => next + index * MINUTE));
});

test('Runs with an ordering key are of its lane, with all other jobs of it', async () => {
  const { deps, store } = await setUp();
  const keyed = { ...wanted, job: { ...wanted.job, orderingKey: 'ada@example.com' } };
  const { id, next } = await create(deps, keyed);
  const job = await enqueueJob(deps, owned, keyed.job);
  if (job.kind !== 'done') throw new Error(job.kind);
  expect(partitionOf(job.body.id)).toBe(partitionOf(id));
  for (const now of [next, next + MINUTE]) await tickSchedule(deps, { scheduleId: id, now, lease });
  const lanes = (await runsOf(store, id)).map(({ data }) => data.lane);
  expect(lanes).toEqual([expect.stringMatching(/^[0-9a-f]{32}$/), lanes[0]]);
  const work = store.keys[partitionOf(id)]?.work('default', 'normal') ?? '';
  const entries = await store.reader.redis.xrange(work, '-', '+');
  expect(entries.map(([, [, text = '']]) => parseWork(text)?.lane)).toEqual(
    Array.from({ length: 3 }, () => lanes[0]),
  );
});

test('A schedule that was deleted ticks no more, and another account can not delete it', async () => {
  const { deps, store } = await setUp();
  const { id, next } = await create(deps);
  const theirs = await deleteSchedule(deps, context(), { scheduleId: id, owner: 'acc-2' });
  expect(theirs).toMatchObject({ kind: 'refused', refusal: { code: 'not_found' } });
  for (let times = 0; times < 2; times++) {
    expect(await deleteSchedule(deps, owned, { scheduleId: id, owner: 'acc-1' })).toMatchObject({
      kind: 'done',
      body: { version: 2 },
    });
  }
  expect(await store.reader.redis.exists(store.keys[partitionOf(id)]?.ticks ?? '')).toBe(0);
  await tickSchedule(deps, { scheduleId: id, now: next, lease });
  expect(await runsOf(store, id)).toEqual([]);
});

test('A tick that Redis forgot, or holds wrongly, is set right by the state', async () => {
  const { deps, store } = await setUp();
  const { id, next } = await create(deps);
  const ticks = store.keys[partitionOf(id)]?.ticks ?? '';
  await store.writer.redis.zadd(ticks, next - MINUTE, id);
  await tickSchedule(deps, { scheduleId: id, now: next - MINUTE, lease });
  expect(await store.reader.redis.zscore(ticks, id)).toBe(String(next));
  expect(await runsOf(store, id)).toEqual([]);
});

test('The schedule that somebody has left behind who was erased is deleted when it is due, and runs nothing', async () => {
  const { deps, store } = await setUp();
  const made = await registerAccount(deps, context(), {
    email: 'ada@example.com',
    password: 'correct horse battery',
    name: 'Ada',
  });
  if (made.kind !== 'done') throw new Error(made.kind);
  const accountId = made.body.id;
  // Let in before the erasure, and late.
  await eraseAccount(deps, context(), { accountId });
  const late = await createSchedule(deps, { ...context(), owner: accountId }, wanted);
  if (late.kind !== 'done') throw new Error(late.kind);
  const { id, nextRunAt = '' } = late.body;
  const now = Date.parse(nextRunAt);
  expect(await tickSchedule(deps, { scheduleId: id, now, lease })).toEqual({ kind: 'ticked', ticks: [] });
  expect((await eventsOf(store, id)).map(({ type }) => type)).toEqual(['ScheduleCreated', 'ScheduleDeleted']);
  expect(await runsOf(store, id)).toEqual([]);
  expect(await store.reader.redis.zcard(store.keys[partitionOf(id)]?.ticks ?? '')).toBe(0);
});
