import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { expect, it, onTestFinished } from 'vitest';
import type { Installation } from '../support/installation.ts';
import { waitUntil } from '../support/installation.ts';
import { sharedSetting } from '../support/setting.ts';
import type { World } from '../support/world.ts';

type Report = {
  subject: string;
  events: number;
  rows?: number;
  wrong: number;
  findings: { kind: string; where: string; detail: string }[];
};

async function verify(installation: Installation, ...args: string[]) {
  const { code, stdout, stderr } = await installation.cli(['verify', ...args, '--json']);
  if (!stdout.startsWith('{')) throw new Error(`verify ended with ${code}: ${stderr}`);
  const { ok, reports } = JSON.parse(stdout) as { ok: boolean; reports: Report[] };
  expect(ok).toBe(code === 0);
  return { code, reports, kinds: reports.flatMap(({ findings }) => findings.map(({ kind }) => kind)) };
}

/** A person, an export and some jobs, all ended, in every read model; then nothing runs any more. */
async function settled(): Promise<{ world: World; installation: Installation }> {
  const { world, installation } = await sharedSetting();
  const roles = await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  await client.send('POST', '/v1/exports', { token, body: { dataset: 'events', format: 'ndjson' } });
  const jobs = Array.from({ length: 20 }, (_, n) => ({ type: 'echo', payload: { n } }));
  await client.send('POST', '/v1/jobs/batch', { token, body: { jobs } });
  await waitUntil(async () => {
    const { body } = await client.send('GET', '/v1/jobs?limit=100', { token });
    const items = body.items as { status: string }[];
    return items.length === 21 && items.every(({ status }) => status === 'succeeded');
  }, 'all jobs to end');
  // A read model may be ahead of the ledger: stopped then, there would be nothing to compare it with.
  await waitUntil(async () => {
    const behind = await sql`
      SELECT FROM checkpoints AS c JOIN checkpoints AS l ON l.partition = c.partition AND l.group_name = 'ledger'
      WHERE c.seq <> l.seq`.execute(world.db);
    return behind.rows.length === 0;
  }, 'the ledger to have it all');
  await Promise.all(Object.values(roles).map((role) => role.stop()));
  return { world, installation };
}

it('finds nothing wrong with what is right, and says of how much', async () => {
  const { installation } = await settled();
  const { code, reports } = await verify(installation);
  expect(code).toBe(0);
  const bySubject = new Map(reports.map((report) => [report.subject, report]));
  expect([...bySubject.keys()].slice(0, 2)).toEqual(['ledger', 'log']);
  expect(bySubject.get('ledger')?.events).toBeGreaterThan(60);
  expect(bySubject.get('log')?.events).toBe(bySubject.get('ledger')?.events);
  expect(bySubject.get('jobs')?.rows).toBe(21);
  expect(bySubject.get('exports')?.rows).toBe(1);
  expect(bySubject.get('accounts')?.rows).toBe(1);
  // Each row is within one of these, too.
  expect((await verify(installation, '--since', '1h')).reports.find((r) => r.subject === 'jobs')?.rows).toBe(
    21,
  );
  expect((await verify(installation, '--sample', '100%')).kinds).toEqual([]);
  expect((await verify(installation, 'exports', '--since', '1h')).reports).toHaveLength(1);
  expect((await verify(installation, 'jobs', '--sample', '10%')).reports[0]?.rows).toBeLessThan(21);
});

it('says which row differs, is missing, or has no event, and in what', async () => {
  const { world, installation } = await settled();
  const ids = await sql<{ id: string }>`SELECT id FROM jobs_v2 ORDER BY id LIMIT 2`.execute(world.db);
  const [changed, removed] = ids.rows.map(({ id }) => id);
  await sql`UPDATE jobs_v2 SET attempts = 7 WHERE id = ${changed}`.execute(world.db);
  await sql`INSERT INTO accounts_v1 SELECT id || '0', email, name, role, version, created_at FROM accounts_v1`.execute(
    world.db,
  );
  await sql`DELETE FROM jobs_v2 WHERE id = ${removed}`.execute(world.db);
  const { code, reports } = await verify(installation);
  expect(code).toBe(1);
  const findings = reports.flatMap((report) => report.findings);
  expect(findings).toEqual(
    expect.arrayContaining([
      {
        kind: 'row_differs',
        where: `jobs_v2 ${changed}`,
        detail: 'attempts is 7, the ledger says 1',
      },
      expect.objectContaining({ kind: 'row_missing', where: `jobs_v2 ${removed}` }),
      expect.objectContaining({ kind: 'row_unfounded' }),
    ]),
  );
  expect(findings).toHaveLength(3);
  const { code: exit, stdout } = await installation.cli(['verify', 'jobs']);
  expect(exit).toBe(1);
  expect(stdout).toContain('WRONG: 2');
  expect((await verify(installation, 'jobs', '--since', '1h')).kinds.sort()).toEqual([
    'row_differs',
    'row_missing',
  ]);
});

it('over HTTP is a job, for operators, whose result says what is wrong', async () => {
  const { world, installation } = await settled();
  await installation.startAll();
  const client = installation.client();
  const operator = await installation.operator();
  const verified = async (body: object = {}) => {
    const answer = await client.send('POST', '/v1/ops/projections/jobs/verify', { ...operator, body });
    expect(answer.status).toBe(202);
    const path = answer.headers.get('location') ?? '';
    await waitUntil(
      async () => (await client.send('GET', path, operator)).body.status === 'succeeded',
      'the verification',
    );
    return (await client.send('GET', path, operator)).body.result;
  };
  expect(await verified()).toMatchObject({ rows: expect.any(Number), wrong: 0, findings: [] });
  await sql`UPDATE jobs_v2 SET attempts = 7 WHERE id = (SELECT min(id) FROM jobs_v2 WHERE type = 'echo')`.execute(
    world.db,
  );
  const since = new Date(Date.now() - 3_600_000).toISOString();
  for (const body of [{}, { since, reason: 'a look' }, { sample: 1 }]) {
    const findings = [{ kind: 'row_differs', detail: expect.stringContaining('attempts') }];
    expect(await verified(body)).toMatchObject({ wrong: 1, findings });
  }
  const path = (name: string) => `/v1/ops/projections/${name}/verify`;
  expect((await client.send('POST', path('nothing'), { ...operator, body: {} })).status).toBe(404);
  expect((await client.send('POST', path('jobs'), { ...operator, body: { sample: 2 } })).status).toBe(400);
  const { token } = await client.register();
  expect((await client.send('POST', path('jobs'), { token, body: {} })).status).toBe(403);
});

/** One of those that are enqueued, and not the first event of its partition. */
const someJob = sql`SELECT partition, seq FROM ledger WHERE type = 'JobEnqueued' AND seq > 3 ORDER BY partition, seq LIMIT 1`;

const tampering = [
  [
    'an event that was changed',
    sql`UPDATE ledger SET data = replace(data, '"normal"', '"high"') WHERE (partition, seq) = (${someJob})`,
    ['broken_chain', 'fork'],
  ],
  [
    'an event that was taken out',
    sql`DELETE FROM ledger WHERE (partition, seq) = (${someJob})`,
    ['broken_chain', 'fork', 'missing_event', 'version_gap'],
  ],
  [
    'the end of the ledger that was cut off',
    sql`DELETE FROM ledger AS l WHERE seq = (SELECT max(seq) FROM ledger WHERE partition = l.partition) AND partition = 0`,
    ['broken_chain', 'wrong_head'],
  ],
  [
    'a batch whose hash was made anew, too',
    sql`UPDATE ledger_batches SET hash = sha256(hash) WHERE first_seq = 1`,
    ['broken_chain'],
  ],
] as const;

it(`notices ${tampering.map(([what]) => what).join(', ')}`, async () => {
  const { world, installation } = await settled();
  await sql`CREATE TABLE ledger_kept AS TABLE ledger; CREATE TABLE batches_kept AS TABLE ledger_batches`.execute(
    world.db,
  );
  for (const [what, tamper, kinds] of tampering) {
    const done = await tamper.execute(world.db);
    expect(Number(done.numAffectedRows), what).toBeGreaterThan(0);
    const { code, kinds: found } = await verify(installation, 'ledger');
    expect(code, what).toBe(1);
    expect(found, what).toEqual(expect.arrayContaining([...kinds]));
    await sql`
      TRUNCATE ledger, ledger_batches;
      INSERT INTO ledger TABLE ledger_kept;
      INSERT INTO ledger_batches TABLE batches_kept`.execute(world.db);
  }
  expect((await verify(installation, 'ledger')).code).toBe(0);
});

it('is right while the system is at work, as of one moment', async () => {
  const { installation } = await sharedSetting();
  await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  let goOn = true;
  const load = (async () => {
    while (goOn) {
      const jobs = Array.from({ length: 10 }, (_, n) => ({ type: 'echo', payload: { n } }));
      await client.send('POST', '/v1/jobs/batch', { token, body: { jobs } });
      await sleep(50);
    }
  })();
  onTestFinished(async () => {
    goOn = false;
    await load.catch(() => {});
  });
  for (const what of ['ledger', 'jobs', 'accounts']) {
    expect((await verify(installation, what)).kinds).toEqual([]);
  }
  goOn = false;
  await load;
});

it('says what it can verify to who names something else', async () => {
  const { installation } = await sharedSetting();
  const { code, stderr } = await installation.cli(['verify', 'nonsense']);
  expect(code).toBe(2);
  expect(stderr).toContain('there are accounts, jobs, exports');
  expect((await installation.cli(['verify', '--since', 'yesterday'])).code).toBe(2);
  expect((await installation.cli(['verify', '--sample', '2'])).code).toBe(2);
});
