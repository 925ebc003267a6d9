import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { expect, it, onTestFinished } from 'vitest';
import type { Client } from '../support/client.ts';
import { type Installation, waitUntil } from '../support/installation.ts';
import { sharedSetting } from '../support/setting.ts';
import type { World } from '../support/world.ts';

const BY = ['--reason', 'a test', '--yes', '--json'];
/** So fast that all of a test's events are in it. */
const FINAL = ['succeeded', 'failed', 'cancelled'];

/** Jobs are made all the time, and read all the time: each one's version never goes back, and no query fails. */
function load(client: Client, token: string) {
  const ids: string[] = [];
  const seen = new Map<string, number>();
  const wrong: string[] = [];
  let reads = 0;
  let slowest = 0;
  let on = true;
  const making = (async () => {
    for (let n = 0; on; n++) {
      const jobs = Array.from({ length: 5 }, (_, at) => ({ type: 'echo', payload: { n, at } }));
      const { status, body } = await client.send('POST', '/v1/jobs/batch', { token, body: { jobs } });
      if (status !== 202 && status !== 207) wrong.push(`a batch answered ${status}`);
      for (const { id } of (body.items ?? []) as { id?: string }[]) if (id) ids.push(id);
      await sleep(20);
    }
  })();
  const reading = (async () => {
    while (on) {
      const id = ids[Math.floor(Math.random() * ids.length)];
      if (!id) {
        await sleep(5);
        continue;
      }
      const begun = performance.now();
      const { status, body } = await client.send('GET', `/v1/jobs/${id}`, { token });
      slowest = Math.max(slowest, performance.now() - begun);
      reads++;
      if (status !== 200) wrong.push(`job ${id} answered ${status}`);
      const version = Number(body.version);
      if (version < (seen.get(id) ?? 0)) wrong.push(`job ${id} went from ${seen.get(id)} to ${version}`);
      seen.set(id, version);
    }
  })();
  return {
    ids,
    wrong,
    reads: () => reads,
    slowest: () => slowest,
    async stop() {
      on = false;
      await Promise.all([making, reading]);
    },
  };
}

async function setting(): Promise<{ world: World; installation: Installation }> {
  return sharedSetting();
}

async function verified(installation: Installation, world: World): Promise<void> {
  await waitUntil(async () => {
    const behind = await sql`
      SELECT FROM checkpoints AS c JOIN checkpoints AS l ON l.partition = c.partition AND l.group_name = 'ledger'
      WHERE c.seq <> l.seq`.execute(world.db);
    return behind.rows.length === 0;
  }, 'read models and ledger to be level');
  const { code, stdout } = await installation.cli(['verify', 'jobs']);
  expect(`${code} ${stdout}`).toMatch(/^0 /);
}

const tablesLike = async (world: World, pattern: string) =>
  (
    await sql<{ name: string }>`
      SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relname LIKE ${pattern}
        AND relnamespace = 'public'::regnamespace ORDER BY 1`.execute(world.db)
  ).rows.map(({ name }) => name);

it('a rebuild goes live under load: no query fails, and no value goes back', async () => {
  const { world, installation } = await setting();
  await installation.startAll();
  await installation.start('projectors');
  const client = installation.client();
  const { token } = await client.register();
  const running = load(client, token);
  onTestFinished(() => running.stop());
  await waitUntil(() => running.ids.length > 300, 'a first few hundred jobs', 20_000);

  for (const generation of [2, 3]) {
    const before = running.reads();
    const args = ['projections', 'rebuild', 'jobs', '--wait', ...(generation === 3 ? ['--drop'] : [])];
    const { code, stdout, stderr } = await installation.cli([...args, ...BY]);
    expect(stderr).toBe('');
    expect(JSON.parse(stdout)).toMatchObject({ projection: 'jobs', generation, phase: 'swapped' });
    expect(code).toBe(0);
    expect(running.reads()).toBeGreaterThan(before);
  }
  await running.stop();
  expect(running.wrong).toEqual([]);
  await waitUntil(
    async () => {
      const { rows } = await sql`SELECT FROM jobs_v2 WHERE NOT status = ANY(${FINAL}::text[])`.execute(
        world.db,
      );
      return rows.length === 0;
    },
    'all jobs to end',
    20_000,
  );
  expect((await sql`SELECT FROM jobs_v2`.execute(world.db)).rows).toHaveLength(running.ids.length);
  await verified(installation, world);
  expect(await tablesLike(world, 'jobs_v2%')).toEqual(['jobs_v2_g3']);
  const { rows: indexes } = await sql<{ name: string }>`
    SELECT indexname AS name FROM pg_indexes WHERE tablename = 'jobs_v2_g3' ORDER BY 1`.execute(world.db);
  expect(indexes.map(({ name }) => name)).toEqual(
    ['lanes', 'newest', 'owner', 'pkey', 'timers'].map((name) => `jobs_v2_g3_${name}`),
  );
}, 90_000);
