import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { describe, expect, it, onTestFinished } from 'vitest';
import { removePostgres, startPostgres, startRedis } from '../../deploy/local/servers.mjs';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { migrateToLatest } from '../../src/projections/migrate.ts';
import type { Answer, Client, Person } from '../support/client.ts';
import { createInstallation, waitUntil } from '../support/installation.ts';
import { ownRedisSetting } from '../support/setting.ts';
import type { World } from '../support/world.ts';

type Load = { acknowledged: string[]; refused: Answer[]; others: Answer[]; stop(): Promise<void> };

/** Asks for exports without a pause, and notes which were acknowledged. */
function load(client: Client, person: Person, width = 4): Load {
  let running = true;
  onTestFinished(() => {
    running = false;
  });
  const result: Load = { acknowledged: [], refused: [], others: [], stop: async () => {} };
  const loops = Array.from({ length: width }, async () => {
    while (running) {
      const answer = await client
        .send('POST', '/v1/exports', { token: person.token, body: { dataset: 'events', format: 'ndjson' } })
        .catch(() => undefined);
      if (answer?.status === 202) result.acknowledged.push(String(answer.body.id));
      else if (answer?.status === 503) result.refused.push(answer);
      else if (answer) result.others.push(answer);
      await sleep(answer?.status === 202 ? 5 : 50);
    }
  });
  result.stop = async () => {
    running = false;
    await Promise.all(loops);
  };
  return result;
}

async function inLedger(world: Pick<World, 'db'>, ids: readonly string[]): Promise<number> {
  const rows = await world.db
    .selectFrom('stream_heads')
    .select('stream_id')
    .where('stream_id', 'in', [...ids, ''])
    .execute();
  return rows.length;
}

async function ledgerHolds(world: Pick<World, 'db'>, type: string, count: number): Promise<boolean> {
  const rows = await world.db.selectFrom('ledger').select('seq').where('type', '=', type).execute();
  return rows.length >= count;
}

describe('when Redis is stopped and started under load', () => {
  it('commands answer 503 meanwhile, then go on, and nothing acknowledged is missing', async () => {
    const { redis, dir, world, installation } = await ownRedisSetting();
    await installation.start('api');
    const projectors = await installation.start('projectors');
    const client = installation.client();
    const ada = await client.register();
    const running = load(client, ada);
    await waitUntil(() => running.acknowledged.length > 50, 'load');
    await redis.stop();
    await waitUntil(() => running.refused.length > 5, 'refusals');
    expect(running.refused[0]?.headers.get('retry-after')).toMatch(/^\d+$/);
    // Queries go on: the token is taken on trust while sessions can't be looked up.
    expect((await client.send('GET', '/v1/accounts/me', { token: ada.token })).status).toBe(200);
    const before = running.acknowledged.length;
    const again = await startRedis({ dir, port: redis.port });
    onTestFinished(() => again.stop());
    await waitUntil(() => running.acknowledged.length > before + 50, 'commands to go on', 30_000);
    await running.stop();
    await waitUntil(
      async () => (await inLedger(world, running.acknowledged)) === running.acknowledged.length,
      'the ledger to hold all that was acknowledged',
      30_000,
      projectors.logs,
    );
    expect(new Set(running.acknowledged).size).toBe(running.acknowledged.length);
    expect(running.others.filter((answer) => answer.body.code !== 'outcome_unknown')).toEqual([]);
  });
});

describe('when Redis comes back with less than it had', () => {
  it('commits stop and say why after an older append-only file was restored', async () => {
    const { redis, dir, world, installation } = await ownRedisSetting();
    const api = await installation.start('api');
    await installation.start('projectors');
    const client = installation.client();
    const ada = await client.register();
    const old = await mkdtemp(join(tmpdir(), 'millrace-old-'));
    onTestFinished(() => rm(old, { recursive: true, force: true }));
    await redis.stop();
    await cp(dir, old, { recursive: true });
    const second = await startRedis({ dir, port: redis.port });
    // Commands that the older file knows nothing of.
    await waitUntil(
      () =>
        client.logIn(ada.email, ada.password).then(
          () => true,
          () => false,
        ),
      'commands to go on',
      30_000,
    );
    await waitUntil(() => ledgerHolds(world, 'SessionStarted', 2), 'the ledger to hold them');
    await second.stop();
    await rm(dir, { recursive: true });
    await cp(old, dir, { recursive: true });
    const third = await startRedis({ dir, port: redis.port });
    onTestFinished(() => third.stop());
    await expectFenced(client, ada, api);
  });

  it('commits stop and say why after FLUSHALL', async () => {
    const { redis, installation } = await ownRedisSetting();
    const api = await installation.start('api');
    await installation.start('projectors');
    const client = installation.client();
    const ada = await client.register();
    const connection = new Redis(redis.url);
    onTestFinished(() => connection.disconnect());
    await connection.flushall();
    await expectFenced(client, ada, api);
  });

  it('commits stop also where the ledger had not heard of what is gone, and go on once an operator says so', async () => {
    const { redis, dir, installation } = await ownRedisSetting();
    const api = await installation.start('api');
    const projectors = await installation.start('projectors');
    const client = installation.client();
    const ada = await client.register();
    await projectors.stop();
    const old = await mkdtemp(join(tmpdir(), 'millrace-old-'));
    onTestFinished(() => rm(old, { recursive: true, force: true }));
    await redis.stop();
    await cp(dir, old, { recursive: true });
    const second = await startRedis({ dir, port: redis.port });
    const logIn = () =>
      client.logIn(ada.email, ada.password).then(
        () => true,
        () => false,
      );
    await waitUntil(logIn, 'commands to go on', 30_000);
    await second.stop();
    await rm(dir, { recursive: true });
    await cp(old, dir, { recursive: true });
    const third = await startRedis({ dir, port: redis.port });
    onTestFinished(() => third.stop());
    await expectFenced(client, ada, api);

    const recover = (...args: string[]) => installation.cli(['recover', ...args]);
    const seen = await recover('--dry-run', '--json');
    expect([seen.code, JSON.parse(seen.stdout)]).toMatchObject([
      0,
      { lost: [{ partition: expect.any(Number), seq: expect.any(Number) }], accepted: false },
    ]);
    expect(await recover()).toMatchObject({ code: 2, stderr: expect.stringContaining('--reason') });
    expect((await api.readyz()).status).toBe(503);
    const done = await recover('--reason', 'a test lost them', '--yes');
    expect(done).toMatchObject({ code: 0, stdout: expect.stringMatching(/^partition \d+, epoch 2: event/) });
    await waitUntil(logIn, 'commands to go on', 30_000);
    expect((await api.readyz()).status).toBe(200);
    expect(await recover('--dry-run')).toMatchObject({ code: 0, stdout: expect.stringMatching(/^Nothing/) });
  });

  async function expectFenced(
    client: Client,
    person: Person,
    api: { readyz(): Promise<{ status: number; body: string }> },
  ) {
    const ask = () =>
      client.send('POST', '/v1/accounts', {
        body: { email: `x${Math.random()}@example.com`, password: person.password, name: 'X' },
      });
    await waitUntil(async () => (await ask()).body.code === 'store_fenced', 'commits to stop', 30_000);
    const refused = await ask();
    expect(refused.status).toBe(503);
    expect(refused.headers.get('retry-after')).toBeTruthy();
    expect(String(refused.body.detail)).toMatch(/stopped/);
    await waitUntil(async () => (await api.readyz()).status === 503, '/readyz to say so');
    expect((await api.readyz()).body).toMatch(/Redis|ledger/);
  }
});

describe('when Postgres is stopped and started', () => {
  it('commands go on, queries answer 503, and read models catch up', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'millrace-faults-'));
    onTestFinished(() => rm(dir, { recursive: true, force: true }));
    const home = join(dir, 'postgres');
    onTestFinished(() => removePostgres(home));
    const postgres = await startPostgres({ dir: home });
    let current = postgres;
    onTestFinished(() => current.stop());
    const redis = await startRedis({ dir: join(dir, 'redis') });
    onTestFinished(() => redis.stop());
    const db = openDatabase<never>({ url: postgres.url, max: 2, applicationName: 'test' });
    await migrateToLatest(db);
    await db.destroy();
    const installation = await createInstallation({
      redisUrl: redis.url,
      databaseUrl: postgres.url,
      prefix: 'mill',
    });
    onTestFinished(() => installation.dispose());
    await installation.startAll();
    const client = installation.client();
    const ada = await client.register();
    await client.exportEvents(ada.token);

    await postgres.stop();
    const accepted: { id: string; position: string }[] = [];
    for (let i = 0; i < 20; i++) {
      const answer = await client.send('POST', '/v1/exports', {
        token: ada.token,
        body: { dataset: 'events', format: 'ndjson' },
      });
      expect(answer.status, JSON.stringify(answer.body)).toBe(202);
      accepted.push({ id: String(answer.body.id), position: String(answer.headers.get('position')) });
    }
    const query = await client.send('GET', `/v1/exports/${accepted[0]?.id}`, { token: ada.token });
    expect(query.status).toBe(503);
    expect(query.headers.get('retry-after')).toBeTruthy();

    current = await startPostgres({ dir: home, port: postgres.port });
    for (const { id, position } of accepted) {
      await waitUntil(
        async () =>
          (
            await client.send('GET', `/v1/exports/${id}`, {
              token: ada.token,
              headers: { 'consistent-with': position },
            })
          ).status === 200,
        'the read model',
        30_000,
      );
      expect((await client.finishedExport(id, ada.token)).body.status).toBe('succeeded');
    }
  });
});
