import { setTimeout as sleep } from 'node:timers/promises';
import { expect, it, onTestFinished } from 'vitest';
import { createInstallation, waitUntil } from '../support/installation.ts';
import { ownPostgres } from '../support/own-postgres.ts';
import { ownRedis } from '../support/own-redis.ts';
import { createWorld } from '../support/world.ts';

const ROUNDS = 2;

it('a recovery that two operators ask for at once, and that a restart of Postgres cuts off, is done again under load, and loses nothing', async () => {
  const [{ primary }, redis] = await Promise.all([ownPostgres(), ownRedis()]);
  const world = await createWorld({ redisUrl: redis.url });
  onTestFinished(() => world.dispose());
  const { redisUrl, prefix } = world;
  const installation = await createInstallation({ redisUrl, databaseUrl: primary.url, prefix });
  onTestFinished(() => installation.dispose());
  await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  const acknowledged: string[] = [];
  let running = true;
  const loops = Array.from({ length: 3 }, async (_, n) => {
    while (running) {
      const body = { type: 'echo', payload: {}, orderingKey: `k${n}` };
      const options = { token, body, headers: { durability: 'ledger' } };
      const answer = await client.send('POST', '/v1/jobs', options).catch(() => undefined);
      if (answer?.status === 202) acknowledged.push(String(answer.body.id));
      else await sleep(100);
    }
  });
  onTestFinished(async () => {
    running = false;
    await Promise.all(loops);
  });
  const more = (what: string) => {
    const before = acknowledged.length;
    return waitUntil(() => acknowledged.length > before + 30, what, 60_000);
  };
  /** Somebody makes Redis anew just now. */
  const recovering = async () => {
    const rows = await primary
      .query(`SELECT FROM pg_locks JOIN pg_stat_activity USING (pid)
        WHERE locktype = 'advisory' AND granted AND application_name = 'millrace-recover'`)
      .catch(() => []);
    return rows.length > 0;
  };
  const recover = (reason: string) => installation.cli(['recover', '--reason', reason, '--yes']);

  for (let round = 0; round < ROUNDS; round++) {
    await more('load');
    await redis.command('FLUSHALL');
    const two = [recover('one'), recover('two')];
    await waitUntil(recovering, 'a recovery to begin', 60_000);
    await primary.kill();
    await primary.start();
    await Promise.all(two);
    await waitUntil(
      async () => (await recover('once more')).code === 0,
      'a recovery that is not cut off',
      60_000,
    );
    await more('commands to go on');
  }
  running = false;
  await Promise.all(loops);

  const unfinished = async () => {
    const found = await Promise.all(
      acknowledged.map((id) => client.send('GET', `/v1/jobs/${id}`, { token })),
    );
    return found.filter(({ body }) => body.status !== 'succeeded').map(({ body }) => body);
  };
  let left: unknown[] = [];
  await waitUntil(
    async () => {
      left = await unfinished();
      return left.length === 0;
    },
    'every job that was acknowledged to succeed',
    60_000,
    () => JSON.stringify(left),
  );
  await waitUntil(
    async () => (await installation.cli(['verify'])).code === 0,
    'everything to be whole',
    60_000,
  );
  expect((await installation.cli(['recover', '--dry-run'])).stdout).toMatch(/nothing to recover/);
}, 240_000);
