import { expect, onTestFinished, test } from 'vitest';
import { createLedger } from '../../src/consumers/ledger.ts';
import { startProjectors } from '../../src/consumers/projectors.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { eventsInLog } from '../support/log.ts';
import { type OwnRedis, ownRedis } from '../support/own-redis.ts';
import { createWorld, type World } from '../support/world.ts';
import { appendEvents, openStore, roleDeps, until } from './support.ts';

const TRIM = { windowEvents: 1_000, retentionMs: 60_000, everyMs: 60_000 };

async function startLedger(world: World, store: OpenEventStore) {
  const pool = openPool({ url: world.databaseUrl, max: 4, applicationName: 'test' });
  onTestFinished(() => pool.end());
  const groups = [createLedger(pool, world.db)];
  const projectors = await startProjectors({ ...roleDeps(world, store), groups, trim: TRIM });
  onTestFinished(() => projectors.stop());
  await projectors.ready();
}

/** A second server with the data of the first, and a master itself: as after a failover of which some have not heard. */
async function promotedCopyOf(old: OwnRedis, store: OpenEventStore): Promise<OwnRedis> {
  const copy = await ownRedis(['--replicaof', `127.0.0.1 ${new URL(old.url).port}`]);
  await until(async () =>
    expect(await store.writer.redis.info('replication')).toMatch(/slave0:.*state=online/),
  );
  const [acknowledged] = [await store.writer.redis.wait(1, 5_000)];
  expect(acknowledged).toBe(1);
  await copy.command('REPLICAOF', 'NO', 'ONE');
  return copy;
}

test('a Redis that was replaced by another while some still speak to it gets nothing into the ledger any more', async () => {
  const old = await ownRedis();
  const world = await createWorld({ redisUrl: old.url });
  onTestFinished(() => world.dispose());
  const left = await openStore(world, 1);
  await startLedger(world, left);
  await appendEvents(left, 0, 5);
  const inLedger = async () =>
    (await world.db.selectFrom('ledger').select('event_id').orderBy('seq').execute()).map(
      (row) => row.event_id,
    );
  await until(async () => expect(await inLedger()).toHaveLength(5));

  const promoted = await promotedCopyOf(old, left);
  const moved = { ...world, redisUrl: promoted.url };
  const store = await openStore(moved, 1);
  expect(store.fencedBecause()).toBeUndefined();

  await appendEvents(left, 0, 3).catch(() => {}); // may be refused
  await until(async () => expect((await inLedger()).length).toBeGreaterThan(5), 3_000).catch(() => {});
  await appendEvents(store, 0, 3);
  await startLedger(moved, store);
  await until(async () => expect(await inLedger()).toHaveLength(8));
  expect(await inLedger()).toEqual((await eventsInLog(store)).map(({ id }) => id));
  await until(() => expect(left.fencedBecause()).toMatch(/another Redis/i), 15_000);
});
