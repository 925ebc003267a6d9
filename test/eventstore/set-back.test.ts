import { sql } from 'kysely';
import { expect, onTestFinished, test, vi } from 'vitest';
import { LEDGER_GROUP, openCheckpoint } from '../../src/eventstore/checkpoints.ts';
import { connectSubscriber } from '../../src/eventstore/connections.ts';
import { mintTokens } from '../../src/eventstore/installation.ts';
import { tokenField } from '../../src/eventstore/set-back.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { FencedError } from '../../src/eventstore/types.ts';
import { createCheckpointWaits } from '../../src/eventstore/waits.ts';
import { copyToLedger } from '../support/ledger.ts';
import { ownRedis } from '../support/own-redis.ts';
import { append, newStream, openStore } from '../support/store.ts';
import { createWorld } from '../support/world.ts';

async function begin() {
  const redis = await ownRedis();
  const world = await createWorld({ redisUrl: redis.url });
  onTestFinished(() => world.dispose());
  const open = () => openStore(world, { fenceIntervalMs: 50 });
  return { redis, world, open, store: await open() };
}

const one = (store: OpenEventStore) => store.commit({ partition: 0, appends: [append(newStream(0))] });
const metaOf = (store: OpenEventStore) => store.keys[0]?.meta ?? '';
const isOpen = (store: OpenEventStore) =>
  vi.waitFor(() => expect(store.fencedBecause()).toBeUndefined(), 15_000);

test('tokens that Postgres gave out before it was set back are not given out again', async () => {
  const { world, store } = await begin();
  await sql`SELECT setval('fencing_tokens', 5)`.execute(world.db);
  const runId = store.writer.runId() ?? '';
  const [tokens, others] = await Promise.all([
    mintTokens(world.db, 2, runId, 40),
    mintTokens(world.db, 2, runId, 30),
  ]);
  expect(Math.min(...tokens)).toBeGreaterThan(40);
  expect(new Set([...tokens, ...others]).size).toBe(4);
  expect(await mintTokens(world.db, 1, runId, 10)).toEqual([Math.max(...tokens, ...others) + 1]);
});

test('Postgres was set back while Redis went on: who owned something is fenced, and nothing that was given out is used again', async () => {
  const { world, store, open } = await begin();
  await one(store);
  await copyToLedger(world, store, 0);
  const { redis } = store.writer;
  // What Postgres knew, and forgot: an owner's token, and a recovery.
  await redis.hset(metaOf(store), { [tokenField('projection:jobs@2')]: 70, recovery: 3 });
  const zombie = 70;
  const later = await open();
  await isOpen(later);

  const { rows } = await sql<{ token: number; recovery: number }>`
    SELECT last_value AS token, (SELECT recovery FROM installation) AS recovery FROM fencing_tokens`.execute(
    world.db,
  );
  expect(rows[0]?.token).toBeGreaterThan(70);
  expect(rows[0]?.recovery).toBe(3);
  await expect(openCheckpoint(world.db, LEDGER_GROUP, 0, zombie)).rejects.toThrow(FencedError);
  expect(await one(later)).toMatchObject({ kind: 'committed', position: { epoch: 2, seq: 2 } });
  // Done once: whoever comes next finds nothing to make up for.
  const next = await open();
  expect(await one(next)).toMatchObject({ kind: 'committed', position: { epoch: 2, seq: 3 } });
});

test('positions of epochs that began after the backup was taken are known again, each within its bounds', async () => {
  const { redis, world, store } = await begin();
  await one(store);
  for (const epoch of [2, 3]) {
    await redis.stop();
    await redis.start();
    await vi.waitFor(
      async () => expect(await store.reader.redis.hget(metaOf(store), 'epoch')).toBe(String(epoch)),
      15_000,
    );
    await isOpen(store);
    await one(store);
  }
  await copyToLedger(world, store, 0);
  await world.db.deleteFrom('epochs').where('epoch', '>', 1).execute();
  await world.db.updateTable('epochs').set({ last_seq: null }).execute();
  const epochs = () =>
    world.db
      .selectFrom('epochs')
      .select(['epoch', 'first_seq', 'last_seq'])
      .where('partition', '=', 0)
      .orderBy('epoch')
      .execute();
  await vi.waitFor(async () => expect(await epochs()).toHaveLength(4), 15_000);
  await isOpen(store);
  expect(await epochs()).toEqual([
    { epoch: 1, first_seq: 1, last_seq: 1 },
    { epoch: 2, first_seq: 2, last_seq: 2 },
    { epoch: 3, first_seq: 3, last_seq: 3 },
    { epoch: 4, first_seq: 4, last_seq: null },
  ]);

  const subscriber = connectSubscriber({ url: world.redisUrl, name: 'waits' });
  const waits = createCheckpointWaits({ subscriber, db: world.db, prefix: world.prefix });
  onTestFinished(() => {
    waits.close();
    subscriber.disconnect();
  });
  const wait = (epoch: number, seq: number) =>
    waits.waitFor({ group: LEDGER_GROUP, position: { partition: 0, epoch, seq }, timeoutMs: 2_000 });
  expect(await Promise.all([wait(1, 1), wait(2, 2), wait(3, 3)])).toEqual(['reached', 'reached', 'reached']);
  // What epoch 1 had of it before the restart, had there been any, was lost then.
  expect(await wait(1, 2)).toBe('lost');
});

test('a running process notices a gap by itself, stops commits, and goes on once a newer backup is there', async () => {
  const { world, store } = await begin();
  for (let event = 0; event < 5; event++) await one(store);
  await copyToLedger(world, store, 0);
  await store.maintain({ partition: 0, heldSeq: 5, trimTo: { epoch: 1, seq: 4 } });
  // It looks every 50 ms, and so has seen by then that the ledger holds five; nobody else can tell.
  await new Promise((resolve) => setTimeout(resolve, 2_000));
  const rows = await world.db.selectFrom('ledger').selectAll().orderBy('seq').execute();
  const second = rows[1]?.event_id ?? '';
  await world.db.deleteFrom('ledger').where('seq', '>', 2).execute();
  await world.db.updateTable('checkpoints').set({ seq: 2, event_id: second }).execute();
  await vi.waitFor(
    () => expect(store.fencedBecause()).toMatch(/ends at event 2.*begins at 5.*without events 3 to 4/),
    15_000,
  );
  await world.db.insertInto('ledger').values(rows.slice(2)).execute();
  await world.db
    .updateTable('checkpoints')
    .set({ seq: 5, event_id: rows[4]?.event_id ?? '' })
    .execute();
  await isOpen(store);
  expect(await one(store)).toMatchObject({ kind: 'committed', position: { seq: 6 } });
});
