import { Redis } from 'ioredis';
import { sql } from 'kysely';
import { expect, onTestFinished, test } from 'vitest';
import { judgeClock } from '../../src/cli/doctor/clocks.ts';
import { keys, node } from '../../src/cli/doctor/settings.ts';
import { waitUntil } from '../support/installation.ts';
import { ownRedisSetting } from '../support/setting.ts';

type Finding = { area: string; name: string; verdict: string; detail: string; mend?: string };

/** What it found, by `area name`. */
function reading(installation: {
  cli(args: readonly string[]): Promise<{ code: number | null; stdout: string }>;
}) {
  return async () => {
    const { code, stdout } = await installation.cli(['doctor', '--json']);
    const { ok, findings } = JSON.parse(stdout) as { ok: boolean; findings: Finding[] };
    expect(code).toBe(ok ? 0 : 1);
    return { ok, of: new Map(findings.map((each) => [`${each.area} ${each.name}`, each])), findings };
  };
}

test('each thing that is set wrong is named with how to mend it, and nothing else fails', async () => {
  const { installation, redis, world } = await ownRedisSetting();
  const doctor = reading(installation);
  const database = new URL(world.databaseUrl).pathname.slice(1);
  const commitsWait = (value: 'on' | 'off') =>
    sql`ALTER DATABASE ${sql.id(database)} SET synchronous_commit = ${sql.lit(value)}`.execute(world.db);
  await commitsWait('on');
  const early = await doctor();
  expect(early.of.get('installation partitions')).toMatchObject({ verdict: 'warn' });
  expect((await world.db.selectFrom('installation').selectAll().execute()).length).toBe(0);

  const roles = await installation.startAll();
  await waitUntil(
    async () => (await doctor()).of.get('installation leases')?.verdict === 'ok',
    'all to be held',
    30_000,
  );
  const sound = await doctor();
  // The Postgres of a test run is one for tests, and is said to be.
  const failing = sound.findings.filter(({ verdict }) => verdict === 'fail').map(({ name }) => name);
  expect(failing).toEqual(['fsync', 'full_page_writes']);
  expect(sound.findings.filter(({ verdict, mend }) => verdict !== 'ok' && !mend)).toEqual([]);
  for (const name of [
    'redis version',
    'redis eviction',
    'postgres synchronous_commit',
    'postgres encoding',
    'clocks redis',
  ]) {
    expect([name, sound.of.get(name)?.verdict]).toEqual([name, 'ok']);
  }
  expect(sound.of.get('installation commits')?.detail).toContain('in all 4 partitions');
  const table = (await installation.cli(['doctor'])).stdout;
  expect(table).toMatch(/^redis\n {2}ok {5} {2}version/m);

  const connection = new Redis(redis.url);
  onTestFinished(() => connection.disconnect());
  connection.on('error', () => {}); // it is stopped in the end
  await connection.config('SET', 'maxmemory-policy', 'allkeys-lru');
  await connection.config('SET', 'appendonly', 'no');
  await commitsWait('off');
  await world.db
    .insertInto('parked_events')
    .values({
      group_name: 'projection:jobs@2',
      partition: 0,
      seq: 1,
      epoch: 1,
      row_key: 'job-x',
      error: 'no',
    })
    .execute();
  await roles.workers.stop();
  const wrong = await doctor();
  expect(wrong.ok).toBe(false);
  expect(wrong.of.get('redis eviction')).toMatchObject({
    verdict: 'fail',
    mend: expect.stringContaining('noeviction'),
  });
  expect(wrong.of.get('redis append-only file')).toMatchObject({ verdict: 'fail' });
  expect(wrong.of.get('postgres synchronous_commit')).toMatchObject({ verdict: 'fail' });
  expect(wrong.of.get('installation read models')?.detail).toContain('jobs 1 in 1 rows');
  expect(wrong.of.get('installation workers')).toMatchObject({ verdict: 'warn' });

  await connection.flushall();
  expect((await doctor()).of.get('installation commits')).toMatchObject({
    verdict: 'fail',
    detail: expect.stringContaining('is not in Redis'),
    mend: expect.stringContaining('millrace recover'),
  });
  await sql`DELETE FROM kysely_migration WHERE name = '0020_event_indexes'`.execute(world.db);
  expect((await doctor()).of.get('installation migrations')).toMatchObject({
    verdict: 'fail',
    detail: 'pending: 0020_event_indexes',
    mend: 'millrace migrate',
  });
  await redis.stop();
  const without = await doctor();
  expect(without.of.get('redis connection')).toMatchObject({ verdict: 'fail' });
  expect(without.of.get('postgres encoding')).toMatchObject({ verdict: 'ok' });
});

test('what Redis does not tell is unknown, rather than well', async () => {
  const { installation, redis } = await ownRedisSetting();
  const connection = new Redis(redis.url);
  onTestFinished(() => connection.disconnect());
  await connection.call('ACL', 'SETUSER', 'default', '-config');
  const { of } = await reading(installation)();
  expect(of.get('redis appendfsync')).toMatchObject({ verdict: 'unknown', detail: 'CONFIG is closed' });
  expect(of.get('redis eviction')).toMatchObject({ verdict: 'ok' });
});

test('a clock that differs is said to, by how much, beyond what asking took', () => {
  const at = (said: number) => judgeClock('redis', { asked: 1_000_000, said, answered: 1_000_040 });
  expect(at(1_000_020)).toMatchObject({ verdict: 'ok', detail: 'as this machine’s, within 40 ms' });
  expect(at(1_000_540)).toMatchObject({ verdict: 'ok', detail: '500 ms ahead of this machine’s' });
  expect(at(998_000)).toMatchObject({ verdict: 'warn', detail: expect.stringContaining('2000 ms behind') });
  expect(at(1_100_000)).toMatchObject({ verdict: 'fail', mend: expect.stringContaining('NTP') });
});

test('keys that somebody made up, or that are the same, fail; and so does an old Node', () => {
  const drawn = (start: number) =>
    Buffer.from(Array.from({ length: 32 }, (_, index) => (start + index * 37) % 256));
  const TOKEN_KEYS = [{ kid: 'a', der: drawn(9) }];
  const verdicts = (MASTER_KEY: Buffer, HMAC_KEY: Buffer) =>
    keys({ MASTER_KEY: [MASTER_KEY], HMAC_KEY, TOKEN_KEYS }).map(({ verdict }) => verdict);
  expect(verdicts(drawn(1), drawn(2))).toEqual(['ok', 'ok', 'ok']);
  expect(verdicts(drawn(1), drawn(1))).toEqual(['fail', 'ok', 'ok']);
  expect(verdicts(Buffer.alloc(32), drawn(1))).toEqual(['fail', 'ok', 'ok']);
  expect(verdicts(drawn(1), Buffer.from('a secret that somebody has typed'))).toEqual(['ok', 'fail', 'ok']);
  expect([node('22.1.0').verdict, node('24.0.0').verdict]).toEqual(['fail', 'ok']);
});
