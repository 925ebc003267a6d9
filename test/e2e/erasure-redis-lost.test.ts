import { Redis } from 'ioredis';
import { expect, it, onTestFinished } from 'vitest';
import { dumpAll, grep } from '../support/dumps.ts';
import { waitUntil } from '../support/installation.ts';
import { ownRedisSetting } from '../support/setting.ts';

it('an erasure goes on after Redis was lost in the middle of it, and is known when it is lost once more', async () => {
  const { redis, world, installation } = await ownRedisSetting();
  await Promise.all([installation.start('api'), installation.start('projectors')]);
  const client = installation.client();
  const [ada, bob] = [await client.register(), await client.register()];
  const later = {
    type: 'echo',
    payload: { said: ada.email },
    runAt: new Date(Date.now() + 3_600_000).toISOString(),
  };
  const made = await client.send('POST', '/v1/jobs', { token: ada.token, body: later });
  expect(made.status).toBe(202);
  const erase = () =>
    client.send('POST', '/v1/accounts/me/erasure', {
      token: ada.token,
      body: { password: ada.password },
      headers: { durability: 'ledger', 'idempotency-key': '"once"' },
    });
  const accepted = await erase();
  expect(accepted.status).toBe(202);
  const receipt = String(accepted.headers.get('location'));

  const connection = new Redis(redis.url);
  onTestFinished(() => connection.disconnect());
  async function lose(): Promise<void> {
    await connection.flushall();
    const job = { token: bob.token, body: { type: 'echo', payload: {} } };
    await waitUntil(
      async () => (await client.send('POST', '/v1/jobs', job)).body.code === 'store_fenced',
      'commits to stop',
      30_000,
    );
    const recover = await installation.cli(['recover', '--reason', 'a test emptied it', '--yes']);
    expect(recover).toMatchObject({ code: 0, stderr: '' });
    await waitUntil(
      async () => (await client.send('POST', '/v1/jobs', job)).status === 202,
      'commands to go on',
      30_000,
    );
  }
  const status = async () => (await client.send('GET', receipt)).body.status;
  const login = { body: { email: ada.email, password: ada.password } };

  await lose();
  expect(await status()).toBe('erasing');
  expect((await client.send('GET', '/v1/accounts/me', { token: ada.token })).status).toBe(401);
  expect((await client.send('POST', '/v1/sessions', login)).status).toBe(401);
  await installation.start('workers');
  await waitUntil(async () => (await status()) === 'erased', 'the erasure', 60_000);

  await lose();
  expect(await status()).toBe('erased');
  expect((await client.send('GET', '/v1/accounts/me', { token: ada.token })).status).toBe(401);
  const again = await erase();
  expect([again.status, again.headers.get('location')]).toEqual([202, receipt]);
  expect(grep(await dumpAll(world, installation.blobDir), [ada.email])).toEqual([]);
  const keys = await world.db.selectFrom('person_keys').select('account_id').execute();
  expect(keys).toEqual([{ account_id: bob.id }]);
  const { email, password } = ada;
  const anew = await client.send('POST', '/v1/accounts', { body: { email, password, name: 'Ada' } });
  expect(anew.status).toBe(201);
  expect(anew.body.id).not.toBe(ada.id);
}, 180_000);
