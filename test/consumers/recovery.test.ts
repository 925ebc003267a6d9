import { expect, test } from 'vitest';
import { createReadCache } from '../../src/access/read-cache.ts';
import { workOf } from '../../src/consumers/recovery/restore.ts';
import type { UnfinishedJob } from '../../src/consumers/recovery/unfinished.ts';
import { EventDecodeError } from '../../src/domain/events.ts';
import { type JobId, streamId } from '../../src/domain/ids.ts';
import type { KeptJob } from '../../src/domain/jobs/state.ts';
import { createKeys } from '../../src/eventstore/partitions.ts';
import { StoreFencedError } from '../../src/eventstore/types.ts';
import { projections } from '../../src/features.ts';
import { rewind } from '../../src/projections/rewind.ts';
import { copyToLedger } from '../support/ledger.ts';
import { append, atVersion, countFold, newStream } from '../support/store.ts';
import type { World } from '../support/world.ts';
import { isOpen, isStopped, keysOf, setting } from './recovering.ts';

const ledgerOf = (world: World, partition = 0) =>
  world.db.selectFrom('ledger').select('seq').where('partition', '=', partition).orderBy('seq').execute();

test('what the log holds beyond the ledger is taken over: nothing is lost', async () => {
  const { world, store, run } = await setting();
  const stream = newStream(0);
  await store.commit({ partition: 0, appends: [append(stream)] });
  await store.commit({ partition: 0, appends: [append(stream, atVersion(1))] });
  await store.writer.redis.unlink(keysOf(store).meta);
  await isStopped(store);
  const partitions = await run();
  expect(partitions?.[0]).toMatchObject({ partition: 0, ledgerSeq: 0, whole: 2, strange: 0 });
  expect(await ledgerOf(world)).toEqual([{ seq: 1 }, { seq: 2 }]);
  await isOpen(store);
  expect(await store.load(stream, countFold)).toMatchObject({ version: 2, state: { count: 2 } });
  expect(await store.commit({ partition: 0, appends: [append(stream, atVersion(2))] })).toMatchObject({
    kind: 'conflict',
  });
  const { expected } = await store.load(stream, countFold);
  expect(await store.commit({ partition: 0, appends: [{ ...append(stream), expected }] })).toMatchObject({
    kind: 'committed',
    position: { epoch: 2, seq: 3 },
  });
});

test('where nothing is wrong nothing is done', async () => {
  const { store, run } = await setting();
  await store.commit({ partition: 0, appends: [append(newStream(0))] });
  expect(await run()).toBeUndefined();
  expect(store.fencedBecause()).toBeUndefined();
});

test('another history in the log is put aside, and the ledger’s goes on', async () => {
  const { world, store, run } = await setting();
  await store.commit({ partition: 0, appends: [append(newStream(0))] });
  await store.commit({ partition: 0, appends: [append(newStream(0))] });
  await copyToLedger(world, store, 0);
  await store.commit({ partition: 0, appends: [append(newStream(0))] });
  await world.db.updateTable('ledger').set({ event_id: 'another' }).where('seq', '=', 2).execute();
  await world.db.updateTable('checkpoints').set({ event_id: 'another' }).execute();
  expect((await run())?.[0]).toMatchObject({ ledgerSeq: 2, whole: 0, strange: 2 });
  const aside = await world.db.selectFrom('quarantined_events').select('seq').orderBy('seq').execute();
  expect(aside).toEqual([{ seq: 2 }, { seq: 3 }]);
  expect(await store.reader.redis.xlen(keysOf(store).log)).toBe(2);
  await isOpen(store);
});

test('a read model that holds what is lost is taken back, and no other', async () => {
  const { world, store, run } = await setting();
  const [here, there] = [streamId('job', 0, 'a'.repeat(20)), streamId('job', 1, 'a'.repeat(20))];
  const schedule = {
    owner: null,
    cron: '* * * * *',
    timezone: 'UTC',
    missed: 'skip',
    job: '{}',
    deleted: false,
  };
  const row = (id: string) => ({ ...schedule, id, version: 1, created_at: new Date() });
  await world.db
    .insertInto('schedules_v1')
    .values([row(here), row(there)] as never)
    .execute();
  const group = 'projection:schedules@1';
  await world.db
    .insertInto('checkpoints')
    .values(
      [0, 1].map((partition) => ({ group_name: group, partition, epoch: 1, seq: partition === 0 ? 9 : 0 })),
    )
    .execute();
  await store.writer.redis.unlink(keysOf(store).meta);
  const rewound: string[] = [];
  await run({
    rewind: async (name, partition) => {
      rewound.push(`${name} ${partition}`);
      await rewind(world.db, projections.schedules, partition);
    },
  });
  expect(rewound).toEqual([`${group} 0`]);
  expect(await world.db.selectFrom('schedules_v1').select('id').execute()).toEqual([{ id: there }]);
});

test('answers that were kept in the read cache are gone with it: they may show what is lost', async () => {
  const { world, store, run } = await setting();
  const { redis } = store.writer;
  const cache = createReadCache(redis, world.prefix, 60_000);
  await cache.look('projection:jobs@2:job-1');
  const kept = await cache.look('projection:jobs@2:job-1');
  if (typeof kept === 'string' || !('lease' in kept)) throw new Error('there is no lease');
  const lost = { mark: { epoch: 1, seq: 7 }, text: '{}' };
  await cache.keep('projection:jobs@2:job-1', kept.lease, lost);
  expect(await cache.look('projection:jobs@2:job-1')).toEqual(lost);
  await redis.unlink(keysOf(store).meta);
  await run();
  expect(await cache.look('projection:jobs@2:job-1')).toBe('first');
});

test('one that was cut off leaves all stopped, and is done again from the beginning', async () => {
  const { world, store, run } = await setting();
  const broken = streamId('job', 3, 'a'.repeat(20));
  await store.commit({ partition: 3, appends: [append(broken)] });
  await copyToLedger(world, store, 3);
  // It begins, as another history is found, and ends with a job that can't be read: the log of the last partition is
  // back by then, its work is not.
  await world.db
    .updateTable('ledger')
    .set({ event_id: 'another', type: 'JobEnqueued', data: '{}' })
    .execute();
  await world.db.updateTable('checkpoints').set({ event_id: 'another' }).execute();
  await world.db
    .insertInto('stream_heads')
    .values({ stream_id: broken, partition: 3, version: 1, seq: 1 })
    .execute();
  await expect(run()).rejects.toThrow(EventDecodeError);
  expect(await store.reader.redis.xlen(keysOf(store, 3).log)).toBe(1);
  // Long enough for whoever would find that log and ledger agree by now.
  await new Promise((resolve) => setTimeout(resolve, 5_000));
  await expect(store.commit({ partition: 3, appends: [append(newStream(3))] })).rejects.toThrow(
    StoreFencedError,
  );
  await world.db.deleteFrom('stream_heads').execute();
  expect((await run())?.[3]).toMatchObject({ ledgerSeq: 1, whole: 0, strange: 0 });
  await isOpen(store);
});

test('jobs wait as they did: holders first, then in the order of becoming due, ties by position', () => {
  const [keys] = createKeys('mill', 1);
  if (!keys) throw new Error('no partition');
  const job = (n: number, phase: string, dueAt: number, more: { lane?: string; holds?: boolean } = {}) =>
    ({
      jobId: streamId('job', 0, String(n).padStart(20, '0')) as JobId,
      dueSeq: n,
      holds: more.holds ?? false,
      state: {
        ...({ phase, attempts: 0, runs: 0, before: 0, suspect: false, takedowns: 0, dueAt } as object),
        spec: {
          ...{
            type: 'echo',
            payload: null,
            queue: 'default',
            priority: 'normal',
            maxAttempts: 3,
            timeoutSeconds: 60,
          },
          ...{ enqueuedAt: '2026-01-01T00:00:00.000Z', correlation: 'c' },
          ...(more.lane ? { lane: more.lane } : {}),
        },
      } as KeptJob & { phase: 'queued' },
    }) satisfies UnfinishedJob;
  const number = (text: string) => Number(text.match(/job-00(\d+)/)?.[1]);
  const commands = [
    ...workOf(
      keys,
      [
        job(5, 'queued', 50),
        job(1, 'queued', 10, { lane: 'a' }),
        job(2, 'running', 20, { lane: 'a', holds: true }),
        job(3, 'queued', 10, { lane: 'a' }),
        job(4, 'failed', 5, { lane: 'b', holds: true }),
        job(6, 'queued', 60, { lane: 'b' }),
        job(7, 'queued', 60, { lane: 'c' }),
        job(8, 'queued', 61, { lane: 'c' }),
        job(9, 'retrying', 99, { lane: 'd', holds: true }),
        job(10, 'scheduled', 99, {}),
        // Their time had come: whether their timers had been promoted nobody recorded.
        job(11, 'scheduled', 55, {}),
        job(12, 'scheduled', 5, { lane: 'e' }),
        job(13, 'queued', 6, { lane: 'e' }),
        job(14, 'retrying', 7, { lane: 'f', holds: true }),
      ],
      80,
    ),
  ];
  const of = (name: string, key: string) =>
    commands.filter((each) => each[0] === name && each[1] === key).map((each) => number(each.join(' ')));
  expect(of('XADD', keys.work('default', 'normal'))).toEqual([12, 14, 2, 5, 11, 7]);
  expect(of('RPUSH', keys.parked('default', 'a'))).toEqual([1, 3]);
  expect(of('RPUSH', keys.parked('default', 'b'))).toEqual([6]);
  expect(of('RPUSH', keys.parked('default', 'c'))).toEqual([8]);
  expect(of('RPUSH', keys.parked('default', 'e'))).toEqual([13]);
  expect(of('ZADD', keys.timers)).toEqual([9, 10]);
  const held = commands.filter((each) => each[0] === 'HSET' && each[1] === keys.blocked('default'));
  const holders = Object.fromEntries(held.map((each) => [each[2], number(String(each[3]))]));
  expect(holders).toEqual({ a: 2, b: 4, c: 7, d: 9, e: 12, f: 14 });
});
