import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { createInstallation, waitUntil } from '../support/installation.ts';
import { ownPostgres } from '../support/own-postgres.ts';
import { createWorld } from '../support/world.ts';

async function setting() {
  const { primary, replicas } = await ownPostgres(1);
  const [replica] = replicas;
  if (!replica) throw new Error('there is no replica');
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const installation = await createInstallation({
    redisUrl: world.redisUrl,
    databaseUrl: primary.url,
    prefix: world.prefix,
    environment: { DATABASE_REPLICA_URLS: replica.url },
  });
  onTestFinished(() => installation.dispose());
  return { replica, installation };
}

it('queries go to a replica, and while it lags, dies and comes back nobody sees an error or a value going back', async () => {
  const { replica, installation } = await setting();
  const { api } = await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  const readyz = async () => (await api.readyz()).body;
  await waitUntil(async () => (await readyz()).includes('"behind by'), 'the replica to be well');
  let over = false;
  const failures: unknown[] = [];

  /** Makes jobs and follows each to its end, with what it was told last. */
  const follow = async () => {
    while (!over) {
      const made = await client.send('POST', '/v1/jobs', { token, body: { type: 'echo', payload: {} } });
      let position = String(made.headers.get('position'));
      let version = Number(made.body.version);
      for (let status = ''; status !== 'succeeded' && !over; ) {
        const headers = { 'consistent-with': position };
        const answer = await client.send('GET', `/v1/jobs/${made.body.id}`, { token, headers });
        const next = Number(answer.body.version);
        if (answer.status !== 200 || next < version) failures.push([answer.status, answer.body, version]);
        [status, version] = [String(answer.body.status), next];
        position = String(answer.headers.get('position'));
      }
    }
  };
  /** Asks for whatever there is. */
  const look = async () => {
    while (!over) {
      const answer = await client.send('GET', '/v1/jobs?limit=5', { token });
      if (answer.status !== 200) failures.push([answer.status, answer.body]);
    }
  };
  const readers = [follow(), follow(), look()];
  onTestFinished(async () => {
    over = true;
    await Promise.allSettled(readers);
  });
  const metrics = async () => (await fetch(`${api.managementUrl}/metrics`)).text();
  const count = async (line: string) => Number((await metrics()).split(`${line} `)[1]?.split('\n')[0] ?? 0);
  const reads = (from: string) => count(`millrace_reads_total{projection="jobs",from="${from}"}`);
  await waitUntil(async () => (await reads('replica')) > 20, 'queries at the replica', 30_000);
  await replica.query('SELECT pg_wal_replay_pause()');
  const behind = /millrace_replica_misses_total\{replica="[^"]+",because="behind"\} [1-9]/;
  await waitUntil(
    async () => (await reads('primary')) > 20 && behind.test(await metrics()),
    'queries that the replica is behind for',
    30_000,
  );
  await replica.query('SELECT pg_wal_replay_resume()');
  await sleep(500);
  await replica.kill();
  await waitUntil(async () => !(await readyz()).includes('"behind by'), 'it to be left out');
  expect((await api.readyz()).status).toBe(200);
  await replica.start();
  await waitUntil(async () => (await readyz()).includes('"behind by'), 'it to be used again', 30_000);
  await sleep(1_000);
  over = true;
  await Promise.all(readers);
  expect(failures).toEqual([]);

  expect(await metrics()).toMatch(/millrace_replica_lag_seconds\{replica="[^"]+"\} [\d.e-]+/);
});

it('what a caller has just made is there for it at once, replica or not', async () => {
  const { replica, installation } = await setting();
  const { api } = await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  await waitUntil(
    async () => (await api.readyz()).body.includes('"behind by'),
    'the replica to be well',
    15_000,
  );
  await replica.query('SELECT pg_wal_replay_pause()');
  const made = await client.send('POST', '/v1/jobs', { token, body: { type: 'echo', payload: {} } });
  const found = await client.send('GET', String(made.headers.get('location')), { token });
  expect(found.status).toBe(200);
});
