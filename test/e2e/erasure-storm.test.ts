import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { sql } from 'kysely';
import { expect, it, onTestFinished } from 'vitest';
import { dumpAll, grep } from '../support/dumps.ts';
import { type Installation, type RoleProcess, waitUntil } from '../support/installation.ts';
import { startOtlpReceiver } from '../support/otlp.ts';
import { startReceiver } from '../support/receiver.ts';
import { sharedSetting } from '../support/setting.ts';
import type { World } from '../support/world.ts';

const password = 'correct horse battery';
const PEOPLE = 8;

it('of people who go on asking for things while they are erased, twice at once, and whose workers are killed, nothing stays', async () => {
  const collector = await startOtlpReceiver();
  onTestFinished(() => collector.close());
  const { world, installation } = await sharedSetting({
    SCHEDULE_SHORTEST_PAUSE_SECONDS: '1',
    READ_CACHE_SECONDS: '60',
    HTTP_REQUEST_ALLOW: 'http://127.0.0.1:*',
    HTTP_REQUEST_ALLOW_PRIVATE: '127.0.0.0/8',
    LOG_KEEP_EVENTS: '50',
    LOG_KEEP_SECONDS: '1',
    OTEL_EXPORTER_OTLP_ENDPOINT: collector.url,
    TRACE_SAMPLE_RATIO: '1',
  });
  const { projectors, api, workers: first } = await installation.startAll();
  const { url } = await startReceiver((request, response) => {
    // As some do: it says again what it was told.
    request.pipe(response.writeHead(request.url?.startsWith('/gone') ? 410 : 200));
  });
  const people = await Promise.all(Array.from({ length: PEOPLE }, () => busyPerson(installation, url)));
  await sleep(1_500);
  // What they did first is read from files by then.
  const archive = ['ledger', 'archive', '--before', '0s', '--keep', '5', '--reason', 'a test', '--yes'];
  expect(await installation.cli(archive)).toMatchObject({ code: 0 });

  const killed: RoleProcess[] = [first];
  const receipts = await Promise.all(
    people.map(async (person, n) => {
      await sleep(n * 250);
      // Half way through, whoever is being erased.
      if (n === 2 || n === 5) {
        await killed.at(-1)?.kill();
        killed.push(await installation.start('workers'));
      }
      const answers = await Promise.all([person.erase(), person.erase()]);
      const accepted = answers.find(({ status }) => status === 202);
      expect(
        answers.map(({ status }) => status).filter((status) => status !== 202 && status !== 401),
      ).toEqual([]);
      return String(accepted?.headers.get('location'));
    }),
  );
  const client = installation.client();
  for (const receipt of receipts) {
    await waitUntil(
      async () => (await client.send('GET', receipt)).body.status === 'erased',
      'the erasure',
      60_000,
    );
  }
  // They find out by their own requests; none is let in any more.
  await Promise.all(people.map(({ over }) => over));
  // What came too late finds no key, and comes to an end of its own.
  const ids = people.map(({ id }) => id);
  await expect
    .poll(() => leftOf(world, ids), { timeout: 60_000 })
    .toEqual({ behind: 0, keys: [], passwords: [], schedules: [], jobs: [] });

  const needles = people.flatMap(({ secrets }) => secrets);
  expect(grep(await dumpAll(world, installation.blobDir), needles)).toEqual([]);
  const logs = new Map([projectors, api, ...killed].map((role, n) => [`log ${n} ${role.name}`, role.logs()]));
  expect(grep(logs, needles)).toEqual([]);
  expect(collector.spans().length).toBeGreaterThan(100);
  const told = new Map([['spans', JSON.stringify(collector.spans())]]);
  for (const { name, managementUrl } of [projectors, api, ...killed.slice(-1)]) {
    told.set(`metrics ${name}`, await (await fetch(`${managementUrl}/metrics`)).text());
  }
  expect(grep(told, needles)).toEqual([]);
  expect(await installation.cli(['verify'])).toMatchObject({ code: 0 });
}, 240_000);

/** What there is of people, as the read models have it, and by how many partitions those lag behind. */
async function leftOf({ db }: World, ids: readonly string[]) {
  const behind = await sql<{ partitions: number }>`
    SELECT count(*)::int AS partitions FROM checkpoints c JOIN checkpoints l USING (partition)
    WHERE l.group_name = 'ledger' AND c.group_name LIKE 'projection:%' AND c.seq < l.seq`.execute(db);
  const schedules = await sql`SELECT id FROM schedules_v1 WHERE owner = ANY(${ids}) AND NOT deleted`.execute(
    db,
  );
  const jobs = await sql`
    SELECT id, type, status FROM jobs_v2
    WHERE owner = ANY(${ids}) AND status NOT IN ('succeeded', 'cancelled') AND NOT discarded`.execute(db);
  const of = (table: 'person_keys' | 'credentials') =>
    db.selectFrom(table).select('account_id').where('account_id', 'in', ids).execute();
  return {
    behind: behind.rows[0]?.partitions,
    keys: await of('person_keys'),
    passwords: await of('credentials'),
    schedules: schedules.rows,
    jobs: jobs.rows,
  };
}

/** Somebody who has jobs of every kind made, one after another, until they are told that they are nobody any more. */
async function busyPerson(installation: Installation, receiver: string) {
  const client = installation.client();
  const unique = randomBytes(6).toString('hex');
  const email = `q${unique}@example.com`;
  const name = `Qx${unique} Byron`;
  const said = `said-Zx${unique}`;
  const made = await client.send('POST', '/v1/accounts', { body: { email, name, password } });
  expect(made.status).toBe(201);
  const { token } = await client.logIn(email, password);
  let lastJob = '';
  const read = (path: string) => client.send('GET', path, { token }).catch(() => undefined);
  const post = async (path: string, body: object) => {
    const answer = await client.send('POST', path, { token, body }).catch(() => undefined);
    if (answer?.status === 202 && path === '/v1/jobs') lastJob = String(answer.body.id);
    return answer;
  };
  const soon = () => new Date(Date.now() + 1_000).toISOString();
  const wishes = [
    () => post('/v1/jobs', { type: 'echo', payload: { said }, callbackUrl: `${receiver}/${said}` }),
    () => post('/v1/jobs', { type: 'echo', payload: { said }, runAt: soon(), orderingKey: said }),
    () => post('/v1/jobs', { type: 'http.request', payload: { url: `${receiver}/${said}`, body: { said } } }),
    () =>
      post('/v1/jobs', {
        type: 'http.request',
        payload: { url: `${receiver}/gone/${said}` },
        maxAttempts: 2,
      }),
    () => read(`/v1/jobs/${lastJob}`),
    () => read('/v1/accounts/me'),
    () => post('/v1/schedules', { cron: '* * * * * *', job: { type: 'echo', payload: { said } } }),
    () => post('/v1/exports', { dataset: 'events', format: 'ndjson' }),
    () => client.send('POST', '/v1/sessions', { body: { email, password } }).catch(() => undefined),
  ];
  const over = Promise.all(
    wishes.map(async (wish) => {
      for (;;) {
        const answer = await wish();
        if (answer?.status === 401) return;
        await sleep(100);
      }
    }),
  );
  return {
    id: String(made.body.id),
    secrets: [email, name, said],
    over,
    erase: () => client.send('POST', '/v1/accounts/me/erasure', { token, body: { password } }),
  };
}
