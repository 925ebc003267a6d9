import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { describe, expect, it, onTestFinished } from 'vitest';
import { startRedis } from '../../deploy/local/servers.mjs';
import type { Answer } from '../support/client.ts';
import { waitUntil } from '../support/installation.ts';
import { commandsOf } from '../support/runbook.ts';
import { ownRedisSetting } from '../support/setting.ts';
import { openProxy } from '../support/tcp-proxy.ts';

const LEDGER = { durability: 'ledger' };

async function setting(redisUrl?: string) {
  const environment = { SCHEDULE_SHORTEST_PAUSE_SECONDS: '1' };
  const { redis, dir, world, installation } = await ownRedisSetting(environment, redisUrl);
  await installation.startAll();
  const client = installation.client();
  const ada = await client.register();
  const post = (path: string, body: object, headers: Record<string, string> = LEDGER): Promise<Answer> =>
    client.send('POST', path, { token: ada.token, body, headers });
  const job = async (id: string) =>
    (await client.send('GET', `/v1/jobs/${id}`, { token: ada.token })).body as Record<string, unknown>;
  const cli = async (...args: string[]) => {
    const done = await installation.cli(args);
    expect(done.stderr).toBe('');
    return done;
  };
  const fenced = () =>
    waitUntil(
      async () => (await post('/v1/jobs', { type: 'echo', payload: {} })).body.code === 'store_fenced',
      'commits to stop',
      30_000,
    );
  const goesOn = () =>
    waitUntil(
      async () =>
        client.logIn(ada.email, ada.password).then(
          () => true,
          () => false,
        ),
      'log-ins to work',
      30_000,
    );
  return { redis, dir, world, installation, client, ada, post, job, cli, fenced, goesOn };
}

describe('a recovery', { timeout: 120_000 }, () => {
  it('after FLUSHALL has every unfinished job go on, in order, and every key and schedule be known', async () => {
    const { redis, world, ada, client, post, job, cli, fenced, goesOn } = await setting();
    await cli('queues', 'pause', 'default', '--reason', 'a test', '--yes');
    const keyed: string[] = [];
    for (let n = 0; n < 5; n++) {
      const answer = await post('/v1/jobs', { type: 'echo', payload: { n }, orderingKey: 'k' });
      expect([answer.status, answer.headers.get('durability')]).toEqual([202, 'ledger']);
      keyed.push(String(answer.body.id));
    }
    const once = { 'idempotency-key': '"once"', ...LEDGER };
    const plain = await post('/v1/jobs', { type: 'echo', payload: { plain: true } }, once);
    const runAt = new Date(Date.now() + 12_000).toISOString();
    const later = await post('/v1/jobs', { type: 'echo', payload: {}, runAt });
    const schedule = await post('/v1/schedules', {
      ...{ cron: '* * * * * *', timezone: 'UTC', missed: 'skip' },
      job: { type: 'echo', payload: {}, queue: 'exports' },
    });
    expect(schedule.status).toBe(201);
    const { db } = world;
    const pauses = db.selectFrom('ledger').select('seq').where('type', '=', 'QueuePaused');
    await waitUntil(async () => (await pauses.execute()).length === 1, 'the ledger to hold the pause');

    const connection = new Redis(redis.url);
    onTestFinished(() => connection.disconnect());
    await connection.flushall();
    await fenced();
    const foreseen = await cli('recover', '--dry-run');
    expect(foreseen.stdout).toMatch(/emptied \(FLUSHALL\)/);
    const done = await cli('recover', '--reason', 'a test emptied it', '--yes', '--json');
    const { partitions, recovered } = JSON.parse(done.stdout);
    expect(recovered).toBe(true);
    const total = (what: string) =>
      partitions.reduce((sum: number, each: Record<string, number>) => sum + (each[what] ?? 0), 0);
    expect(total('jobs')).toBeGreaterThanOrEqual(7);
    expect([total('schedules'), total('strange')]).toEqual([1, 0]);
    const recoveredAt = Date.now();
    await goesOn();

    expect((await job(String(plain.body.id))).status).toBe('queued');
    const again = await post('/v1/jobs', { type: 'echo', payload: { plain: true } }, once);
    expect([again.body.id, again.headers.get('idempotency-replayed')]).toEqual([plain.body.id, 'true']);
    await cli('queues', 'resume', 'default', '--reason', 'a test', '--yes');
    const all = [...keyed, String(plain.body.id), String(later.body.id)];
    await waitUntil(
      async () => (await Promise.all(all.map(job))).every(({ status }) => status === 'succeeded'),
      'all jobs to succeed',
      45_000,
    );
    expect(Date.now() - recoveredAt).toBeLessThan(40_000);
    const started = await Promise.all(keyed.map(async (id) => String((await job(id)).startedAt)));
    expect(started).toEqual(started.toSorted());
    const ticked = async () =>
      Date.parse(
        String(
          (await client.send('GET', `/v1/schedules/${schedule.body.id}`, { token: ada.token })).body
            .lastRunAt,
        ),
      );
    await waitUntil(async () => (await ticked()) > recoveredAt, 'the schedule to tick', 20_000);

    await waitUntil(async () => (await cli('verify', 'ledger')).code === 0, 'the ledger to be whole', 20_000);
    expect((await cli('recover', '--dry-run')).stdout).toMatch(/nothing to recover/);
    const noted = await world.db.selectFrom('recoveries').selectAll().execute();
    expect(noted).toMatchObject([
      { recovery: 1, asked_for: 'a test emptied it', ended_at: expect.any(Date) },
    ]);
    const recorded = async () =>
      JSON.parse((await cli('ops', 'ls', '--operation', 'redis.recover', '--json')).stdout).items;
    await waitUntil(async () => (await recorded()).length === 1, 'the operation to be listed', 20_000);
    expect(await recorded()).toMatchObject([{ target: 'redis', reason: 'a test emptied it' }]);
  });

  it('under load loses nothing that was acknowledged with `ledger`, up to the moment of the FLUSHALL', async () => {
    const { redis, post, job, cli, fenced, goesOn } = await setting();
    const acknowledged: string[] = [];
    let running = true;
    onTestFinished(() => {
      running = false;
    });
    const loops = Array.from({ length: 6 }, async () => {
      while (running) {
        const answer = await post('/v1/jobs', { type: 'echo', payload: {} }).catch(() => undefined);
        if (answer?.status === 202) acknowledged.push(String(answer.body.id));
        else await sleep(50);
      }
    });
    await waitUntil(() => acknowledged.length > 100, 'load', 30_000);
    const connection = new Redis(redis.url);
    onTestFinished(() => connection.disconnect());
    await connection.flushall();
    await fenced();
    const before = acknowledged.length;
    await cli('recover', '--reason', 'a test', '--yes');
    await goesOn();
    await waitUntil(() => acknowledged.length > before + 50, 'commands to go on', 30_000);
    running = false;
    await Promise.all(loops);
    await waitUntil(
      async () => (await Promise.all(acknowledged.map(job))).every(({ status }) => status === 'succeeded'),
      'every job that was acknowledged to succeed',
      60_000,
    );
    await waitUntil(async () => (await cli('verify')).code === 0, 'everything to be whole', 30_000);
  });

  it('from an older append-only file goes on with what the ledger has beyond it', async () => {
    const { redis, dir, post, job, cli, fenced, goesOn } = await setting();
    const old = await mkdtemp(join(tmpdir(), 'millrace-old-'));
    onTestFinished(() => rm(old, { recursive: true, force: true }));
    await redis.stop();
    await cp(dir, old, { recursive: true });
    const second = await startRedis({ dir, port: redis.port });
    await goesOn();
    const runAt = new Date(Date.now() + 20_000).toISOString();
    const { body } = await post('/v1/jobs', { type: 'echo', payload: {}, runAt });
    await second.stop();
    await rm(dir, { recursive: true });
    await cp(old, dir, { recursive: true });
    const third = await startRedis({ dir, port: redis.port });
    onTestFinished(() => third.stop());
    await fenced();
    const [confirm, mend, afterwards, ...rest] = await commandsOf('redis-was-lost.md');
    expect([rest, afterwards]).toEqual([[], ['verify', 'ledger']]);
    expect((await cli(...(confirm ?? []))).stdout).toMatch(/Redis was restored from an older state/);
    expect((await cli(...(mend ?? []))).stdout).toMatch(/Redis is made anew/);
    await goesOn();
    await waitUntil(async () => (await job(String(body.id))).status === 'succeeded', 'the job', 60_000);
    await waitUntil(async () => (await cli('verify')).code === 0, 'everything to be whole', 30_000);
  });

  it('after a failover that lost acknowledged writes goes on at the new master with what the ledger has', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'millrace-failover-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    const master = await startRedis({ dir: join(folder, 'master') });
    onTestFinished(() => master.stop());
    const replica = await startRedis({ dir: join(folder, 'replica') });
    onTestFinished(() => replica.stop());
    const follower = new Redis(replica.url);
    onTestFinished(() => follower.disconnect());
    await follower.replicaof('127.0.0.1', master.port);
    let target = master.port;
    const proxy = await openProxy(() => ({ host: '127.0.0.1', port: target }));
    onTestFinished(() => proxy.close());
    const { post, job, cli, fenced, goesOn, world } = await setting(`redis://127.0.0.1:${proxy.port}`);
    await waitUntil(
      async () => /master_link_status:up/.test(await follower.info('replication')),
      'the replica',
    );

    // From now on the master is alone, and goes on answering.
    await follower.replicaof('NO', 'ONE');
    const runAt = new Date(Date.now() + 15_000).toISOString();
    const later = await post('/v1/jobs', { type: 'echo', payload: {}, runAt });
    const plain = await post('/v1/jobs', { type: 'echo', payload: {} });
    expect([later.status, plain.status]).toEqual([202, 202]);
    await waitUntil(async () => (await job(String(plain.body.id))).status === 'succeeded', 'the job');
    target = replica.port;
    proxy.cut();
    await fenced();
    const [status, confirm, mend, afterwards, ...rest] = await commandsOf('redis-failover.md');
    expect(rest).toEqual([]);
    expect((await cli(...(status ?? []))).stdout).toMatch(/fence|another|lacks|fewer|holds/i);
    expect((await cli(...(confirm ?? []))).stdout).toMatch(/the ledger has \d+ events/);
    expect((await cli(...(mend ?? []))).stdout).toMatch(/Redis is made anew/);
    await goesOn();
    await waitUntil(
      async () => (await cli(...(afterwards ?? []))).code === 0,
      'the ledger to be whole',
      30_000,
    );
    expect((await job(String(plain.body.id))).status).toBe('succeeded');
    await waitUntil(
      async () => (await job(String(later.body.id))).status === 'succeeded',
      'the other',
      40_000,
    );
    await waitUntil(async () => (await cli('verify')).code === 0, 'everything to be whole', 30_000);
    expect(await world.db.selectFrom('recoveries').select('problem').execute()).toHaveLength(1);
  });
});
