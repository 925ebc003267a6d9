import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { expect, it, onTestFinished } from 'vitest';
import type { Client } from '../support/client.ts';
import { type Installation, waitUntil } from '../support/installation.ts';
import { commandsOf } from '../support/runbook.ts';
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

  const before = running.reads();
  const args = ['projections', 'rebuild', 'jobs', '--wait', '--drop', ...BY];
  const { code, stdout, stderr } = await installation.cli(args);
  expect(stderr).toBe('');
  expect(JSON.parse(stdout)).toMatchObject({ projection: 'jobs', generation: 2, phase: 'swapped' });
  expect(code).toBe(0);
  expect(running.reads()).toBeGreaterThan(before);

  const operator = await installation.operator();
  const path = '/v1/ops/projections/jobs/rebuild';
  const body = { reason: 'a test', drop: true };
  const headers = { 'idempotency-key': '"once"' };
  const made = await client.send('POST', path, { ...operator, body, headers });
  expect(made).toMatchObject({ status: 202, body: { id: 'jobs', generation: 3, phase: 'filling' } });
  expect(made.headers.get('location')).toBe(path);
  expect(await client.send('POST', path, { ...operator, body })).toMatchObject({ status: 409 });
  const again = await client.send('POST', path, { ...operator, body, headers });
  expect([again.status, again.body.generation]).toEqual([202, 3]);
  expect(again.headers.get('idempotency-replayed')).toBe('true');
  const now = async () => (await client.send('GET', path, operator)).body;
  await waitUntil(async () => (await now()).phase === 'swapped', 'the third generation to be live', 30_000);
  const { endedAt, by, position, target } = await now();
  expect([typeof endedAt, typeof by, Number(position) > 0 && Number(target) > 0]).toEqual([
    'string',
    'string',
    true,
  ]);
  expect((await client.send('POST', `${path}/cancel`, { ...operator, body: { reason: 'x' } })).status).toBe(
    409,
  );
  await running.stop();
  expect(running.wrong).toEqual([]);
  await waitUntil(
    async () => {
      const { rows } = await sql`SELECT FROM jobs_v2 WHERE status = ANY(${FINAL}::text[])`.execute(world.db);
      return rows.length === running.ids.length;
    },
    'all jobs to have ended',
    20_000,
  );
  await verified(installation, world);
  expect(await tablesLike(world, 'jobs_v2%')).toEqual(['jobs_v2_g3']);
  const { rows: indexes } = await sql<{ name: string }>`
    SELECT indexname AS name FROM pg_indexes WHERE tablename = 'jobs_v2_g3' ORDER BY 1`.execute(world.db);
  expect(indexes.map(({ name }) => name)).toEqual(
    ['lanes', 'newest', 'owner', 'pkey', 'timers'].map((name) => `jobs_v2_g3_${name}`),
  );
});

it('a rebuild whose projectors are killed goes on where it was, and a cancelled one leaves nothing', async () => {
  const { world, installation } = await sharedSetting();
  const { projectors } = await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  const jobs = Array.from({ length: 1_000 }, (_, n) => ({ type: 'echo', payload: { n } }));
  for (let batch = 0; batch < 8; batch++)
    await client.send('POST', '/v1/jobs/batch', { token, body: { jobs } });
  const events = async () =>
    (
      await sql<{
        events: number;
      }>`SELECT sum(seq)::int AS events FROM checkpoints WHERE group_name = 'ledger'`.execute(world.db)
    ).rows[0]?.events ?? 0;
  await waitUntil(async () => (await events()) >= 24_000, 'the ledger to have all events', 60_000);
  // By the page that operators follow.
  const [confirm = [], plan = [], mend = [], stop = [], after = [], ...rest] =
    await commandsOf('rebuild-and-swap.md');
  expect(rest).toEqual([]);
  expect((await installation.cli(confirm)).code).toBe(0);
  expect(await installation.cli(plan)).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^\d{5} events/),
  });
  const mended = installation.cli(mend);
  const rebuild = async () =>
    (
      await sql<{ phase: string; seq: number; group_name: string }>`
      SELECT r.phase, r.group_name, (SELECT max(token) FROM checkpoints c WHERE c.group_name = r.group_name) AS seq
      FROM rebuilds r ORDER BY id DESC LIMIT 1`.execute(world.db)
    ).rows[0];
  // Taken over, and so at work: what it has not written yet is lost with it.
  await waitUntil(async () => ((await rebuild())?.seq ?? 0) > 0, 'the rebuild to be under way', 20_000);
  await projectors.kill();
  expect((await rebuild())?.phase).toBe('filling');
  await installation.start('projectors');
  await waitUntil(
    async () => (await rebuild())?.phase === 'swapped',
    'the new generation to be live',
    60_000,
  );
  expect(await mended).toMatchObject({ code: 0, stdout: expect.stringMatching(/^jobs: swapped/) });
  await verified(installation, world);

  const again = await installation.cli(['projections', 'rebuild', 'jobs', ...BY]);
  expect(JSON.parse(again.stdout)).toMatchObject({ generation: 3, phase: 'filling' });
  const refused = await installation.cli(['projections', 'rebuild', 'jobs', ...BY]);
  expect(refused).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('millrace projections cancel jobs'),
  });
  expect(await installation.cli(stop)).toMatchObject({
    code: 0,
    stdout: expect.stringMatching(/^jobs: cancelled/),
  });
  expect(await tablesLike(world, 'jobs_v2%')).toEqual(['jobs_v2_g2']);
  const left = await sql`SELECT FROM checkpoints WHERE group_name LIKE 'rebuild:%'`.execute(world.db);
  expect(left.rows).toEqual([]);
  expect((await installation.cli(stop)).code).toBe(1);
  expect((await installation.cli(after)).code).toBe(0);
});
