import { Redis } from 'ioredis';
import { sql } from 'kysely';
import { expect, it, onTestFinished } from 'vitest';
import { createKeys } from '../../src/eventstore/partitions.ts';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { createInstallation, waitUntil } from '../support/installation.ts';
import { ownPostgres } from '../support/own-postgres.ts';
import { commandsOf } from '../support/runbook.ts';
import { createWorld } from '../support/world.ts';

async function setting(environment: Record<string, string> = {}) {
  const { primary } = await ownPostgres();
  const world = await createWorld();
  onTestFinished(() => world.dispose());
  const { redisUrl, prefix } = world;
  const installation = await createInstallation({ redisUrl, databaseUrl: primary.url, prefix, environment });
  onTestFinished(() => installation.dispose());
  const roles = await installation.startAll();
  const client = installation.client();
  const ada = await client.register();
  const db = openDatabase<Record<string, never>>({ url: primary.url, max: 2, applicationName: 'test' });
  onTestFinished(() => db.destroy());

  const post = (url: string, body: object, token = ada.token) => client.send('POST', url, { token, body });
  const enqueued = async () => {
    const { body, headers, status } = await post('/v1/jobs', { type: 'echo', payload: { some: 'thing' } });
    if (status !== 202) throw new Error(`enqueueing: ${status} ${JSON.stringify(body)}`);
    return { id: String(body.id), position: String(headers.get('position')) };
  };
  const enqueue = (count: number) => Promise.all(Array.from({ length: count }, enqueued));
  const get = (path: string, headers: Record<string, string> = {}) =>
    client.send('GET', path, { token: ada.token, headers });
  const succeeded = async (jobs: readonly { id: string }[]) => {
    const found = await Promise.all(jobs.map(({ id }) => get(`/v1/jobs/${id}`)));
    return found.every(({ body }) => body.status === 'succeeded');
  };
  const goesOn = () =>
    waitUntil(
      async () => (await post('/v1/jobs', { type: 'echo', payload: {} })).status === 202,
      'commands',
      30_000,
    );
  /** The ledger and every read model have all that the log has. */
  const settled = () =>
    waitUntil(
      async () => {
        const { rows } = await sql`
          SELECT FROM checkpoints AS c JOIN checkpoints AS l ON l.partition = c.partition AND l.group_name = 'ledger'
          WHERE c.seq <> l.seq`.execute(db);
        return rows.length === 0 && !(await roles.projectors.readyz()).body.includes('"ok":false');
      },
      'the ledger to have it all',
      30_000,
      () => roles.projectors.logs(),
    );
  const verified = async () => {
    const { code, stdout } = await installation.cli(['verify', '--json']);
    return { code, wrong: JSON.parse(stdout).reports.filter(({ wrong }: { wrong: number }) => wrong > 0) };
  };
  const whole = () => waitUntil(async () => (await verified()).code === 0, 'verify to find nothing', 30_000);
  return {
    world,
    primary,
    installation,
    roles,
    client,
    db,
    post,
    enqueue,
    get,
    succeeded,
    goesOn,
    settled,
    whole,
  };
}

it('Postgres is set back while all roles run: what it lost is taken over from the log, and nothing is done twice', async () => {
  const { primary, installation, roles, db, enqueue, get, succeeded, goesOn, settled, whole } =
    await setting();
  const before = await enqueue(10);
  await waitUntil(() => succeeded(before), 'jobs to succeed', 30_000);
  await settled();
  await primary.save('backup');
  await goesOn();

  // Since then: jobs that are over, an archive of the ledger, and leases that changed hands.
  const since = await enqueue(40);
  await waitUntil(() => succeeded(since), 'jobs to succeed', 30_000);
  await roles.workers.stop();
  await installation.start('workers');
  const archive = ['ledger', 'archive', '--before', '0s', '--keep', '0', '--reason', 'a test', '--yes'];
  expect((await installation.cli(archive)).code).toBe(0);
  await settled();
  const token = async () =>
    Number(
      (await sql<{ token: number }>`SELECT last_value AS token FROM fencing_tokens`.execute(db)).rows[0]
        ?.token,
    );
  const drawn = await token();

  await primary.restore('backup');
  await goesOn();
  const after = await enqueue(10);
  await waitUntil(() => succeeded([...before, ...since, ...after]), 'all jobs to have succeeded', 30_000);
  for (const { id, position } of [...since, ...after]) {
    const found = await get(`/v1/jobs/${id}`, { 'consistent-with': position });
    expect([found.status, found.body.status, found.body.attempts]).toEqual([200, 'succeeded', 1]);
  }
  await settled();
  await whole();
  // Files of the archive that Postgres forgot are in nobody's way.
  expect((await installation.cli(archive)).code).toBe(0);
  await whole();
  // A process that starts finds what was given out and forgotten; whoever gets a lease has a higher one.
  await installation.start('workers');
  await waitUntil(async () => (await token()) > drawn, 'tokens beyond those that were given out', 10_000);
});

it('set back further than the log goes it is fenced, says what mends it, and goes on once it was mended', async () => {
  const { world, primary, installation, roles, db, enqueue, get, succeeded, goesOn, settled, whole } =
    await setting({
      LOG_KEEP_SECONDS: '1',
      LOG_KEEP_EVENTS: '10',
      PARTITIONS: '1',
    });
  const before = await enqueue(5);
  await waitUntil(() => succeeded(before), 'jobs to succeed', 30_000);
  await settled();
  const { rows: heads } = await sql<{ seq: number }>`
    SELECT seq FROM checkpoints WHERE group_name = 'ledger'`.execute(db);
  await primary.save('backup');
  await goesOn();
  const since = await enqueue(40);
  await waitUntil(() => succeeded(since), 'jobs to succeed', 30_000);
  await settled();
  await primary.save('newer');
  const lost = since[0];
  if (!lost) throw new Error('no job');
  await goesOn();
  const redis = new Redis(world.redisUrl);
  onTestFinished(() => redis.disconnect());
  const [keys] = createKeys(world.prefix, 1);
  const begins = async () =>
    Number((await redis.xrange(keys?.log ?? '', '-', '+', 'COUNT', 1))[0]?.[0].split('-')[1] ?? 0);
  await waitUntil(async () => (await begins()) > (heads[0]?.seq ?? 0) + 1, 'the log to be trimmed', 60_000);

  await primary.restore('backup');
  const fenced = () =>
    waitUntil(async () => (await roles.api.readyz()).status === 503, 'the fence', 15_000, roles.api.logs);
  await fenced();
  const { body } = await roles.api.readyz();
  expect(body).toMatch(/Postgres was restored from an older state/);
  expect(body).toMatch(/millrace recover/);

  await primary.restore('newer');
  await goesOn();
  await waitUntil(() => succeeded([...before, ...since]), 'all jobs to have succeeded', 30_000);
  await settled();
  await whole();

  // And where there is no newer one.
  await primary.restore('backup');
  await fenced();
  const [foresee = [], mend = []] = await commandsOf('postgres-down.md');
  expect((await installation.cli(foresee)).stdout).toMatch(/Postgres was restored from an older state/);
  const mended = await installation.cli(mend);
  expect([mended.code, mended.stderr]).toEqual([0, '']);
  await goesOn();
  const after = await enqueue(5);
  await waitUntil(() => succeeded([...before, ...after]), 'jobs to succeed', 30_000);
  expect((await get(`/v1/jobs/${lost.id}`, { 'consistent-with': lost.position })).status).toBe(410);
  await settled();
  await whole();
}, 180_000);
