import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { EventId } from '../../src/domain/ids.ts';
import { moveCheckpoint, openCheckpoint } from '../../src/eventstore/checkpoints.ts';
import { connectSubscriber } from '../../src/eventstore/connections.ts';
import { createCheckpointWaits } from '../../src/eventstore/waits.ts';
import { createWorld } from '../support/world.ts';

const GROUP = 'projection:jobs@2';

async function begin(pollMs = 60_000) {
  const world = await createWorld();
  const { db, prefix, redisUrl: url } = world;
  await db.insertInto('epochs').values({ partition: 3, epoch: 1, first_seq: 1, run_id: 'r' }).execute();
  const subscriber = connectSubscriber({ url, name: 'test' });
  const publisher = new Redis(url);
  const waits = createCheckpointWaits({ subscriber, db, prefix, pollMs });
  await vi.waitFor(async () => {
    const [, subscribers] = (await publisher.pubsub('NUMSUB', `${prefix}:checkpoints`)) as [string, number];
    expect(subscribers).toBe(1);
  }, 10_000);
  onTestFinished(async () => {
    waits.close();
    subscriber.disconnect();
    publisher.disconnect();
    await world.dispose();
  });
  let from = await openCheckpoint(db, GROUP, 3, 1);
  const move = async (seq: number, hint = true, epoch = 1) => {
    const to = { epoch, seq, eventId: `e${seq}` as EventId };
    await db
      .transaction()
      .execute((trx) => moveCheckpoint(trx, { group: GROUP, partition: 3, from, to, token: 1 }));
    from = to;
    if (hint) await publisher.publish(`${prefix}:checkpoints`, `${GROUP} 3 ${epoch} ${seq}`);
  };
  const wait = (seq: number, timeoutMs = 10_000, epoch = 1, signal?: AbortSignal) =>
    waits.waitFor({
      group: GROUP,
      position: { partition: 3, epoch, seq },
      timeoutMs,
      ...(signal ? { signal } : {}),
    });
  return { db, waits, move, wait };
}

test('reached: at once when the checkpoint has passed the position, by a hint when it comes to', async () => {
  const { move, wait } = await begin();
  await move(5);
  expect(await wait(5)).toBe('reached');
  const later = wait(7);
  await move(6);
  expect(await Promise.race([later, sleep(50, 'waits')])).toBe('waits');
  await move(9);
  expect(await later).toBe('reached');
});

test('reached: without any hint, by polling', async () => {
  const { move, wait } = await begin(20);
  const waiting = wait(1);
  await move(1, false);
  expect(await waiting).toBe('reached');
});

test('timeout: the checkpoint does not come, or the client leaves', async () => {
  const { wait } = await begin();
  expect(await wait(1, 20)).toBe('timeout');
  const client = new AbortController();
  const waiting = wait(1, 10_000, 1, client.signal);
  client.abort();
  expect(await waiting).toBe('timeout');
  expect(await wait(1, 10_000, 1, client.signal)).toBe('timeout');
});

test('who waits for no time at all is told whether it is there already', async () => {
  const { move, wait } = await begin();
  await move(5);
  expect(await Promise.all([wait(5, 0), wait(1, 0), wait(6, 0)])).toEqual(['reached', 'reached', 'timeout']);
});

test('lost: a position above the end of its epoch, also while somebody waits for it', async () => {
  const { db, move, wait } = await begin(20);
  await move(4);
  const waiting = wait(6);
  await db.updateTable('epochs').set({ last_seq: 5 }).execute();
  await db.insertInto('epochs').values({ partition: 3, epoch: 2, first_seq: 6, run_id: 'r2' }).execute();
  expect(await waiting).toBe('lost');
  await move(8, true, 2);
  // Seq 6 exists again, but as another event.
  expect(await wait(6)).toBe('lost');
  expect(await wait(6, 10_000, 2)).toBe('reached');
  expect(await wait(5)).toBe('reached');
});

test('lost: an epoch that never was', async () => {
  const { move, wait } = await begin();
  await move(5);
  expect(await wait(1, 10_000, 9)).toBe('lost');
});

test('a thousand that wait cost a few queries, not a thousand', async () => {
  const { db, move, wait } = await begin();
  const queries = vi.spyOn(db, 'getExecutor');
  const all = Promise.all(Array.from({ length: 1_000 }, (_, index) => wait(index + 1)));
  await move(1_000);
  expect(new Set(await all)).toEqual(new Set(['reached']));
  expect(queries.mock.calls.length).toBeGreaterThan(0);
  expect(queries.mock.calls.length).toBeLessThan(10);
});
