import { expect, onTestFinished, test } from 'vitest';
import { createLedger } from '../../src/consumers/ledger.ts';
import { startProjectors } from '../../src/consumers/projectors.ts';
import { openPool } from '../../src/eventstore/postgres.ts';
import { startProxy } from '../support/proxy.ts';
import { appendEvents, openWorld, roleDeps, until } from './support.ts';

const TRIM = { windowEvents: 1_000, retentionMs: 60_000, everyMs: 60_000 };

test('a connection to Postgres that gives no answer any more is given up, and its partition goes on', async () => {
  const { world, store } = await openWorld({ partitions: 1 });
  const network = await startProxy(world.databaseUrl);
  const pool = openPool({ url: network.url, max: 4, applicationName: 'test', statementTimeoutMs: 500 });
  onTestFinished(() => pool.end());
  const groups = [createLedger(pool, world.db)];
  const projectors = await startProjectors({ ...roleDeps(world, store), groups, trim: TRIM });
  onTestFinished(() => projectors.stop());
  const inLedger = async () => (await world.db.selectFrom('ledger').select('seq').execute()).length;
  await appendEvents(store, 0, 3);
  await until(async () => expect(await inLedger()).toBe(3));

  network.swallowAnswers();
  await appendEvents(store, 0, 3);
  await network.swallowed();
  network.accept();
  await until(async () => expect(await inLedger()).toBe(6), 12_000);
});
