import { Redis } from 'ioredis';
import { sql } from 'kysely';
import { expect, it, onTestFinished } from 'vitest';
import { waitUntil } from '../support/installation.ts';
import { ownRedisSetting } from '../support/setting.ts';

it('hot reads come from Redis, never older than what the caller brings, sealed as in Postgres; without Redis they go on', async () => {
  const { redis, world, installation } = await ownRedisSetting({ READ_CACHE_SECONDS: '30' });
  const { api } = await installation.startAll();
  const client = installation.client();
  const ada = await client.register();
  const { token } = ada;
  const get = (path: string, headers: Record<string, string> = {}) =>
    client.send('GET', path, { token, headers });
  const failures: unknown[] = [];

  /** Follows a job by what it was told last: its version never falls, and it ends. */
  const follow = async () => {
    const made = await client.send('POST', '/v1/jobs', { token, body: { type: 'echo', payload: {} } });
    const path = `/v1/jobs/${made.body.id}`;
    let [position, version] = [String(made.headers.get('position')), Number(made.body.version)];
    await waitUntil(async () => {
      const answer = await get(path, { 'consistent-with': position });
      if (answer.status !== 200 || Number(answer.body.version) < version) failures.push(answer);
      version = Number(answer.body.version);
      position = answer.headers.get('position') ?? position;
      return answer.body.status === 'succeeded';
    }, 'the job to succeed');
    // Whoever asks without a position is told of the end, too, long before entries run out.
    await waitUntil(
      async () => (await get(path)).body.status === 'succeeded',
      'the cache to be told',
      15_000,
    );
    return path;
  };
  const paths = await Promise.all(Array.from({ length: 20 }, follow));
  expect(failures).toEqual([]);

  for (let turn = 0; turn < 5; turn++) {
    for (const path of [...paths.slice(0, 5), '/v1/accounts/me']) {
      const { status, headers } = await get(path);
      expect(status).toBe(200);
      const again = await get(path, { 'if-none-match': String(headers.get('etag')) });
      expect(again.status).toBe(304);
    }
  }
  const metrics = await (await fetch(`${api.managementUrl}/metrics`)).text();
  expect(metrics).toMatch(/millrace_read_cache_total\{projection="jobs",outcome="hit"\} \d\d/);
  expect(metrics).toMatch(/millrace_reads_total\{projection="accounts",from="cache"\} \d/);

  const connection = new Redis(redis.url);
  connection.on('error', () => {});
  onTestFinished(() => connection.disconnect());
  const kept = await connection.keys('*:read:*');
  expect(kept.some((key) => key.includes('accounts'))).toBe(true);
  for (const key of kept) {
    expect(await connection.get(key)).not.toContain(ada.email);
    expect(await connection.pttl(key)).toBeGreaterThan(0);
  }

  // A row that was wrong, was kept like that, and is made right by a rebuild.
  const { body } = await client.send('POST', '/v1/jobs', { token, body: { type: 'echo', payload: {} } });
  const rowOf = sql`SELECT FROM jobs_v2 WHERE id = ${body.id} AND status = 'succeeded'`;
  await waitUntil(async () => (await rowOf.execute(world.db)).rows.length > 0, 'the job to succeed');
  await sql`UPDATE jobs_v2 SET progress = 55 WHERE id = ${body.id}`.execute(world.db);
  const progress = async () => (await get(`/v1/jobs/${body.id}`)).body.progress;
  const keyOf = async () => (await connection.keys(`*:read:*${body.id}`))[0] ?? '';
  await waitUntil(async () => {
    expect(await progress()).toBe(55);
    return (await connection.get(await keyOf()))?.startsWith('1 ') === true;
  }, 'it to be kept');
  const done = await installation.cli([
    'projections',
    'rebuild',
    'jobs',
    '--reason',
    'a test',
    '--yes',
    '--wait',
  ]);
  expect(done).toMatchObject({ code: 0, stderr: '' });
  await waitUntil(async () => (await progress()) === 100, 'what was kept before to be forgotten', 10_000);

  await redis.stop();
  for (const path of paths) expect((await get(path)).body.status).toBe('succeeded');
});
