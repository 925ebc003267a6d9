import { randomBytes } from 'node:crypto';
import { expect, it, onTestFinished } from 'vitest';
import type { PeopleTables } from '../../src/access/tables.ts';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import type { Database } from '../../src/projections/database.ts';
import { dumpAll, grep } from '../support/dumps.ts';
import { createInstallation, waitUntil } from '../support/installation.ts';
import { ownPostgres } from '../support/own-postgres.ts';
import { createWorld } from '../support/world.ts';

it('Postgres is set back to before an erasure: it is done again, from what the log still has', async () => {
  const { primary } = await ownPostgres();
  const shared = await createWorld();
  onTestFinished(() => shared.dispose());
  const { redisUrl, prefix } = shared;
  const installation = await createInstallation({ redisUrl, databaseUrl: primary.url, prefix });
  onTestFinished(() => installation.dispose());
  const roles = await installation.startAll();
  const db = openDatabase<Database & PeopleTables>({ url: primary.url, max: 2, applicationName: 'test' });
  onTestFinished(() => db.destroy());
  const keys = () => db.selectFrom('person_keys').select('account_id').execute();
  const client = installation.client();
  const bob = await client.register();
  const ada = await client.register();
  const secret = `secret-${randomBytes(5).toString('hex')}`;
  const post = (path: string, token: string, body: object) => client.send('POST', path, { token, body });
  const echo = (token: string) => post('/v1/jobs', token, { type: 'echo', payload: { said: secret } });
  const { body } = await echo(ada.token);
  const job = () => client.send('GET', `/v1/jobs/${body.id}`, { token: ada.token });
  await waitUntil(async () => (await job()).body.status === 'succeeded', 'the job to succeed');
  const goesOn = () => waitUntil(async () => (await echo(bob.token)).status === 202, 'commands', 30_000);

  await primary.save('backup');
  await goesOn();
  const accepted = await post('/v1/accounts/me/erasure', ada.token, { password: ada.password });
  expect(accepted.status).toBe(202);
  const receipt = String(accepted.headers.get('location'));
  await waitUntil(
    async () => (await client.send('GET', receipt)).body.status === 'erased',
    'the erasure',
    60_000,
  );
  expect(await keys()).toEqual([{ account_id: bob.id }]);

  await primary.restore('backup');
  expect(await keys()).toHaveLength(2);
  // In every partition: who reads one in which nothing happens has nothing to stumble over.
  const moved = new Set<string>();
  await waitUntil(
    async () => {
      const { status, headers } = await echo(bob.token);
      if (status === 202) moved.add(String(headers.get('position')).split('.')[0] ?? '');
      return moved.size === 4;
    },
    'commands in every partition',
    30_000,
  );
  await waitUntil(
    async () => (await db.selectFrom('erasures_v1').selectAll().execute()).some((row) => row.completed_at),
    'the read model to have it again',
    60_000,
    () => roles.projectors.logs(),
  );
  // All projectors do so every minute; one that starts does so at once.
  await installation.start('projectors');
  await waitUntil(async () => (await keys()).length === 1, 'the key to go again');
  const world = { ...shared, db, databaseUrl: primary.url };
  const found = grep(await dumpAll(world, installation.blobDir), [ada.email, secret]);
  expect(found).toEqual([]);
  const login = { body: { email: ada.email, password: ada.password } };
  expect((await client.send('POST', '/v1/sessions', login)).status).toBe(401);
}, 180_000);
