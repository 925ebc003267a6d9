import { sql } from 'kysely';
import { expect, onTestFinished, test, vi } from 'vitest';
import { createLedger } from '../../src/consumers/ledger.ts';
import { foresee } from '../../src/consumers/recovery/recover.ts';
import { takeOverInto } from '../../src/consumers/recovery/salvage.ts';
import { unfinishedJobs } from '../../src/consumers/recovery/unfinished.ts';
import { type EventId, streamId } from '../../src/domain/ids.ts';
import { type ArchiveFiles, createArchives } from '../../src/eventstore/archive/archives.ts';
import { archiveLedger } from '../../src/eventstore/archive/write.ts';
import { compareWithLedger } from '../../src/eventstore/compare.ts';
import { createKeys } from '../../src/eventstore/partitions.ts';
import { reconcile } from '../../src/eventstore/reconcile.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { copyToLedger, epochsOf } from '../support/ledger.ts';
import { append, newStream } from '../support/store.ts';
import type { World } from '../support/world.ts';
import { isOpen, isStopped, keysOf, setting } from './recovering.ts';

const one = (store: OpenEventStore, partition = 0) =>
  store.commit({ partition, appends: [append(newStream(partition))] });

/** As after a restart of Redis: another epoch of positions begins. */
async function newEpoch(store: OpenEventStore): Promise<void> {
  const { meta } = keysOf(store);
  const before = Number(await store.writer.redis.hget(meta, 'epoch'));
  await store.writer.redis.hset(meta, 'run', 'another');
  await vi.waitFor(
    async () => expect(Number(await store.writer.redis.hget(meta, 'epoch'))).toBe(before + 1),
    10_000,
  );
  await isOpen(store);
}

/** Ends the connection of who reconciles or recovers just now, as a firewall does that has forgotten it. */
async function breakLock({ db }: World): Promise<void> {
  await sql`
    SELECT pg_terminate_backend(pid, 5000) FROM pg_locks
    WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`.execute(
    db,
  );
}

test('a recovery that was cut off, after Postgres was set back, begins no epoch that there was before', async () => {
  const { world, store, run } = await setting();
  await one(store);
  await one(store);
  await copyToLedger(world, store, 0);
  for (const _ of [2, 3]) {
    await newEpoch(store);
    await one(store);
    await one(store);
  }
  // Postgres is set back to the first two events, and the log begins at the fifth.
  await store.writer.redis.xtrim(keysOf(store).log, 'MINID', '3-5');
  await world.db.deleteFrom('epochs').where('epoch', '>', 1).execute();
  await world.db.updateTable('epochs').set({ last_seq: null }).execute();
  await isStopped(store);
  const cutOff = { forgetReads: () => Promise.reject(new Error('cut off')) };
  await expect(run(cutOff)).rejects.toThrow('cut off');
  await run();
  await isOpen(store);
  expect(await one(store)).toMatchObject({ kind: 'committed', position: { seq: 3, epoch: 4 } });
  // What was answered with epochs 2 and 3 is lost, and known to be.
  expect(await epochsOf(world)).toEqual([
    { epoch: 1, last_seq: 2 },
    { epoch: 2, last_seq: 2 },
    { epoch: 3, last_seq: 2 },
    { epoch: 4, last_seq: null },
  ]);
});

test('a recovery that lost the connection that keeps others out does nothing any more: another one may be over', async () => {
  const { world, store, run } = await setting();
  await store.writer.redis.unlink(keysOf(store).meta);
  await isStopped(store);
  await world.db
    .insertInto('checkpoints')
    .values({ group_name: 'projection:ahead@1', partition: 0, epoch: 1, seq: 9 })
    .execute();
  const set = () => world.db.updateTable('checkpoints').set({ seq: 0 }).where('seq', '=', 9).execute();
  const late = run({
    rewind: async () => {
      await breakLock(world);
      await set();
      await run();
      await isOpen(store);
      await one(store, 3);
    },
  });
  await expect(late).rejects.toThrow();
  await isOpen(store);
  expect(await store.reader.redis.xlen(keysOf(store, 3).log)).toBe(1);
  expect(await one(store, 3)).toMatchObject({ kind: 'committed', position: { seq: 2 } });
});

test('a Redis that holds the log of another installation is not made anew', async () => {
  const { store, run, deps } = await setting();
  await one(store);
  await store.writer.redis.hset(keysOf(store).meta, 'store', 'of-somebody-else');
  await isStopped(store);
  await expect(foresee(deps)).rejects.toThrow(/of-somebody-else/);
  await expect(run()).rejects.toThrow(/of-somebody-else/);
  expect(await store.reader.redis.xlen(keysOf(store).log)).toBe(1);
});

test('a Redis that holds this installation’s log under another prefix has lost nothing', async () => {
  const { world, store, run } = await setting();
  await one(store);
  await expect(run({ keys: createKeys('mistyped', 4), prefix: 'mistyped' })).rejects.toThrow(
    `under another prefix (${world.prefix}:`,
  );
  expect(store.fencedBecause()).toBeUndefined();
});

test('a recovery with another number of partitions is refused', async () => {
  const { world, store, run } = await setting();
  await one(store);
  await expect(run({ keys: createKeys(world.prefix, 2) })).rejects.toThrow(/4 partitions/);
  expect(store.fencedBecause()).toBeUndefined();
});

test('a log that is trimmed while it is compared with the ledger is not taken for one that lost events', async () => {
  const { world, store } = await setting();
  for (let n = 0; n < 5; n++) await one(store);
  await copyToLedger(world, store, 0);
  const second = await world.db
    .selectFrom('ledger')
    .select('event_id')
    .where('seq', '=', 2)
    .executeTakeFirst();
  await world.db
    .insertInto('checkpoints')
    .values({
      group_name: 'projection:slow@1',
      partition: 0,
      epoch: 1,
      seq: 2,
      event_id: second?.event_id ?? '',
    })
    .execute();
  const { redis } = store.reader;
  const trimmed = new Proxy(redis, {
    get(target, name) {
      if (name !== 'xrange') return Reflect.get(target, name, target);
      return async (...args: [string, string, string]) => {
        await store.maintain({ partition: 0, heldSeq: 5, trimTo: { epoch: 1, seq: 3 } });
        return target.xrange(...args);
      };
    },
  });
  expect(await compareWithLedger(world.db, trimmed, store.keys)).toBeUndefined();
});

test('an entry of the log that is no event is one that differs from the ledger’s', async () => {
  const { world, store } = await setting();
  await one(store);
  await copyToLedger(world, store, 0);
  const { redis } = store.writer;
  const log = store.keys[0]?.log ?? '';
  await redis.del(log);
  await redis.xadd(log, '1-1', 'i', 'somebody else wrote this');
  expect(await compareWithLedger(world.db, redis, store.keys)).toMatch(
    /Event 1 of partition 0 is unreadable/,
  );
});

test('what is committed and read while Redis is compared is not missed: nothing of it is taken for lost', async () => {
  const { world, store } = await setting();
  await one(store);
  await copyToLedger(world, store, 0);
  const { redis } = store.writer;
  const busy = new Proxy(redis, {
    get(target, name) {
      if (name !== 'xrange') return Reflect.get(target, name, target);
      return async (...args: [string, string, string]) => {
        await one(store);
        return target.xrange(...args);
      };
    },
  });
  const connection = { ...store.writer, redis: busy };
  const runId = store.writer.runId() ?? '';
  expect(await reconcile(world.db, connection, world.prefix, store.keys, runId, store.told)).toBeUndefined();
  expect(await world.db.selectFrom('losses').selectAll().execute()).toEqual([]);
});

test('a read model that has read another event where it stands is taken back', async () => {
  const { world, store, run } = await setting();
  await one(store);
  await copyToLedger(world, store, 0);
  const group = { group_name: 'projection:other@1', partition: 0, epoch: 1, seq: 1, event_id: 'another' };
  await world.db.insertInto('checkpoints').values(group).execute();
  const rewound: string[] = [];
  await run({
    rewind: async (name) => {
      rewound.push(name);
      await world.db.deleteFrom('checkpoints').where('group_name', '=', name).execute();
    },
  });
  expect(rewound).toEqual([group.group_name]);
  await isOpen(store);
  expect(await run()).toBeUndefined();
});

test('idempotency keys are known again by Redis’ clock, whatever that of the operator’s machine says', async () => {
  const { world, store, run } = await setting();
  const { events, ...rest } = append(newStream(0));
  const at = new Date().toISOString();
  const claim = { key: 'a-key', fingerprint: 'f', answer: '{}' };
  const meta = JSON.stringify({ schema: 1, at, actor: 'test', correlation: 'c', claim });
  const named = events.map((event) => ({ ...event, meta }));
  await store.commit({ partition: 0, appends: [{ ...rest, events: named }] });
  await store.writer.redis.unlink(keysOf(store).meta);
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 86_400_000 });
  onTestFinished(() => void vi.useRealTimers());
  expect((await run())?.[0]).toMatchObject({ whole: 1, claims: 1 });
  expect(await store.findClaim(0, 'a-key')).toMatchObject({ fingerprint: 'f' });
  expect(await world.db.selectFrom('recoveries').selectAll().execute()).toHaveLength(1);
});

test('an unfinished job is found once, whether its events lie in the table, in a file, in both, or move meanwhile', async () => {
  const { world, deps } = await setting();
  const { db } = world;
  const jobs = [0, 1, 2].map((n) => streamId('job', 0, `${n}`.repeat(20)));
  const data = {
    ...{
      type: 'echo',
      payload: null,
      queue: 'default',
      priority: 'normal',
      maxAttempts: 1,
      timeoutSeconds: 60,
    },
  };
  const meta = { schema: 1, at: '2026-01-01T00:00:00.000Z', actor: 'a', correlation: 'c' };
  const take = takeOverInto(createLedger(deps.pool, db), db);
  for (const [n, id] of [...jobs, newStream(0)].entries()) {
    const text = { data: JSON.stringify(data), meta: JSON.stringify(meta) };
    const type = n < jobs.length ? 'JobEnqueued' : 'JobCompleted';
    const at = { partition: 0, epoch: 1, seq: n + 1, version: 1, type };
    await take([{ ...at, ...text, id: `event-${n}` as EventId, streamId: id }]);
  }
  const files = new Map<string, Uint8Array>();
  const blobs: ArchiveFiles = {
    write: async (file, bytes) => void files.set(file, bytes),
    read: async (file) => files.get(file) ?? Promise.reject(new Error(`no file ${file}`)),
  };
  const archiveBelow = (seq: number) =>
    archiveLedger(db, blobs, {
      keepEvents: 0,
      below: { partition: 0, seq },
      by: 'a test',
      reason: 'it is one',
    });
  // The first lies in both, as where an archive was cut off; the others leave the table while they are looked for.
  const first = await db.selectFrom('ledger').selectAll().where('seq', '=', 1).execute();
  await archiveBelow(2);
  await db.insertInto('ledger').values(first).execute();
  const found: string[] = [];
  for await (const { jobId } of unfinishedJobs({ db, archives: createArchives(blobs) }, 0)) {
    found.push(jobId);
    if (found.length === 1) expect(await archiveBelow(4)).toHaveLength(1);
  }
  expect(found.toSorted()).toEqual(jobs);
});
