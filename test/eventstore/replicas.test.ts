import { expect, inject, onTestFinished, test } from 'vitest';
import { openReplicas } from '../../src/eventstore/replicas.ts';
import { waitUntil } from '../support/installation.ts';
import { ownPostgres } from '../support/own-postgres.ts';

const MAX_LAG_MS = 600;
/** Within a second, that is, and some more for a machine under load. */
const SOON_MS = 3_000;

async function setting() {
  const servers = await ownPostgres(1);
  const [replica] = servers.replicas;
  if (!replica) throw new Error('there is no replica');
  const changes: (string | undefined)[] = [];
  const watch = (primaryUrl: string, urls = [replica.url]) => {
    const replicas = openReplicas({
      urls,
      primaryUrl,
      max: 2,
      applicationName: 'test',
      maxLagMs: MAX_LAG_MS,
      onChange: (_, problem) => changes.push(problem),
    });
    onTestFinished(() => replicas.close());
    return replicas;
  };
  return { primary: servers.primary, replica, watch, changes };
}

test('a replica that is gone, hangs or was promoted is left out within a second, and comes back by itself', async () => {
  const { primary, replica, watch, changes } = await setting();
  const replicas = watch(primary.url);
  const isFit = () => replicas.fit(true).length === 1;
  const told = () => JSON.stringify(replicas.states());
  await waitUntil(isFit, 'the replica to be used', 15_000, told);

  const killed = performance.now();
  await replica.kill();
  await waitUntil(() => replicas.fit(false).length === 0, 'it to be left out', 10_000, told);
  expect(performance.now() - killed).toBeLessThan(SOON_MS);
  await replica.start();
  await waitUntil(isFit, 'it to be used again', 10_000, told);

  const stopped = performance.now();
  replica.pause();
  await waitUntil(() => replicas.fit(false).length === 0, 'it to be left out', 10_000, told);
  expect(performance.now() - stopped).toBeLessThan(SOON_MS);
  replica.resume();
  await waitUntil(isFit, 'it to be used again', 10_000, told);

  await replica.query('SELECT pg_promote()');
  const promoted = performance.now();
  await waitUntil(() => replicas.fit(false).length === 0, 'it to be left out', 10_000, told);
  expect(performance.now() - promoted).toBeLessThan(SOON_MS);
  expect(replicas.states()[0]?.problem).toContain('it is no replica');
  expect(changes.filter((problem) => problem === undefined)).toHaveLength(3);
});

test('a replica is as far behind as its log is, on a busy system and an idle one', async () => {
  const { primary, replica, watch } = await setting();
  const replicas = watch(primary.url);
  const told = () => JSON.stringify(replicas.states());
  await waitUntil(() => replicas.fit(true).length === 1, 'the replica to be used', 15_000, told);
  await replica.query('SELECT pg_wal_replay_pause()');
  await primary.query('CREATE TABLE something AS SELECT 1 AS n');
  await waitUntil(() => replicas.fit(true).length === 0, 'it to be too far behind', 15_000, told);
  expect(replicas.fit(false)).toHaveLength(1);
  expect(replicas.states()[0]?.lagMs).toBeGreaterThan(MAX_LAG_MS);
  await replica.query('SELECT pg_wal_replay_resume()');
  await waitUntil(() => replicas.fit(true).length === 1, 'it to catch up', 15_000, told);
});

test('a replica of another system is never asked', async () => {
  const { watch } = await setting();
  const replicas = watch(inject('serverUrl'));
  const told = () => JSON.stringify(replicas.states());
  await waitUntil(() => told().includes('another system'), 'it to be looked at', 15_000, told);
  expect(replicas.fit(false)).toEqual([]);
});
