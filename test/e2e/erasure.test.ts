import { createPrivateKey, randomBytes, sign } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import { sql } from 'kysely';
import { describe, expect, it, onTestFinished } from 'vitest';
import { openParts } from '../../src/app/base.ts';
import { erasureDeps } from '../../src/app/erasing.ts';
import { forEachReadModel } from '../../src/app/read-models.ts';
import { createDiskStore } from '../../src/blobs/disk.ts';
import { readConfig } from '../../src/config.ts';
import { type ErasureDeps, eraseJob } from '../../src/consumers/erasures.ts';
import { filesOf } from '../../src/domain/exports.ts';
import { type JobId, jobOfExport, parseStreamId, type StreamId } from '../../src/domain/ids.ts';
import { jobFold, jobIsFinished } from '../../src/domain/jobs/state.ts';
import { rewind } from '../../src/projections/rewind.ts';
import { createLogger } from '../../src/telemetry/logging.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';
import { dumpAll, grep } from '../support/dumps.ts';
import { type Installation, waitUntil } from '../support/installation.ts';
import { startReceiver } from '../support/receiver.ts';
import { sharedSetting } from '../support/setting.ts';
import type { World } from '../support/world.ts';

const password = 'correct horse battery';

/** Nobody else is called so, and no random text holds it. */
function distinctive() {
  const unique = randomBytes(5).toString('hex');
  return { email: `q${unique}.lovelace@example.com`, name: `Adaline Qx${unique} Byron` };
}

async function registered(installation: Installation, person = distinctive()) {
  const client = installation.client();
  const made = await client.send('POST', '/v1/accounts', { body: { ...person, password } });
  expect(made.status).toBe(201);
  const { token, sessionId } = await client.logIn(person.email, password);
  return { ...person, id: String(made.body.id), token, sessionId };
}

/** The same token, as if it had been issued so many seconds later; signed as the installation does. */
function reissued({ environment }: Installation, token: string, seconds: number): string {
  const [, der = ''] = (environment.TOKEN_KEYS ?? '').split(':');
  const key = createPrivateKey({ key: Buffer.from(der, 'base64'), format: 'der', type: 'pkcs8' });
  const [header = '', payload = ''] = token.split('.');
  const claims = JSON.parse(Buffer.from(payload, 'base64url').toString());
  const moved = { ...claims, iat: claims.iat + seconds, exp: claims.exp + seconds };
  const input = `${header}.${Buffer.from(JSON.stringify(moved)).toString('base64url')}`;
  return `${input}.${sign(null, Buffer.from(input), key).toString('base64url')}`;
}

function erase(installation: Installation, token: string, with_ = password) {
  return installation.client().send('POST', '/v1/accounts/me/erasure', { token, body: { password: with_ } });
}

async function completed(installation: Installation, location: string): Promise<Record<string, unknown>> {
  const client = installation.client();
  let body: Record<string, unknown> = {};
  await waitUntil(
    async () => {
      body = (await client.send('GET', location)).body;
      return body.status === 'erased';
    },
    'the erasure to be complete',
    60_000,
    () => JSON.stringify(body),
  );
  return body;
}

const keysOf = async (world: World, id: string) => [
  ...(await world.db.selectFrom('person_keys').select('account_id').where('account_id', '=', id).execute()),
  ...(await world.db.selectFrom('credentials').select('account_id').where('account_id', '=', id).execute()),
];

async function readModelsHold(world: World): Promise<void> {
  await waitUntil(async () => {
    const { rows } = await sql<{ behind: string }>`
      SELECT count(*) AS behind FROM checkpoints c JOIN checkpoints l USING (partition)
      WHERE l.group_name = 'ledger' AND c.group_name LIKE 'projection:%' AND c.seq < l.seq`.execute(world.db);
    return Number(rows[0]?.behind) === 0;
  }, 'the read models to hold all that the ledger has');
}

describe('an erased person', () => {
  it('is found nowhere any more: not in Redis, tables, files, a rebuilt read model, or one that lagged behind', async () => {
    const { world, installation } = await sharedSetting({ SCHEDULE_SHORTEST_PAUSE_SECONDS: '1' });
    const { projectors } = await installation.startAll();
    const client = installation.client();
    const ada = await registered(installation);
    const bob = await registered(installation);
    const needles = [ada.email, ada.name];
    const { token } = ada;
    const exported = await client.exportEvents(token);
    expect(JSON.stringify(exported.events)).toContain(ada.name);
    const later = await client.send('POST', '/v1/jobs', {
      token,
      body: { type: 'echo', payload: { n: 1 }, runAt: new Date(Date.now() + 3_600_000).toISOString() },
      headers: { 'idempotency-key': '"later"' },
    });
    expect(later.status).toBe(202);
    const schedule = await client.send('POST', '/v1/schedules', {
      token,
      body: { cron: '0 0 1 1 *', job: { type: 'echo', payload: { n: 2 } } },
    });
    expect(schedule.status).toBe(201);
    // What the search would find, if it were there: the file that was made for her.
    const before = grep(await dumpAll(world, installation.blobDir), needles);
    expect(before).toEqual(needles.map((needle) => `${needle} in ${placeOf(before[0])}`));
    expect(before[0]).toMatch(/ in file .*\.gz$/);

    await projectors.stop();
    const other = await client.logIn(ada.email, password);
    const accepted = await erase(installation, token);
    expect(accepted.status).toBe(202);
    const receipt = String(accepted.headers.get('location'));
    // At once, though nothing is deleted before the ledger holds it.
    for (const each of [token, other.token]) {
      expect((await client.send('GET', '/v1/accounts/me', { token: each })).status).toBe(401);
      const job = { token: each, body: { type: 'echo', payload: {} } };
      expect((await client.send('POST', '/v1/jobs', job)).status).toBe(401);
    }
    const refresh = { body: { refreshToken: other.answer.body.refreshToken } };
    expect((await client.send('POST', '/v1/sessions/refresh', refresh)).status).toBe(401);
    const login = { body: { email: ada.email, password } };
    expect((await client.send('POST', '/v1/sessions', login)).body.code).toBe('wrong_credentials');
    expect((await client.send('GET', receipt)).body).toMatchObject({ id: ada.id, status: 'erasing' });
    expect(await keysOf(world, ada.id)).toHaveLength(2);

    const lagging = await installation.start('projectors');
    expect(await completed(installation, receipt)).toMatchObject({
      ended: { sessions: 2, jobs: 1, schedules: 1, exports: 1 },
    });
    await readModelsHold(world);
    expect(grep(await dumpAll(world, installation.blobDir), needles)).toEqual([]);
    expect(await keysOf(world, ada.id)).toEqual([]);
    expect(await keysOf(world, bob.id)).toHaveLength(2);
    const { body: job } = await client.send(
      'GET',
      `/v1/jobs/${later.body.id}`,
      await installation.operator(),
    );
    expect(job.status).toBe('cancelled');

    // From the ledger alone, all of it.
    await lagging.stop();
    await rewindAll(world);
    await installation.start('projectors');
    await readModelsHold(world);
    expect(grep(await dumpAll(world, installation.blobDir), needles)).toEqual([]);
    expect((await client.send('GET', '/v1/accounts/me', { token: bob.token })).body.name).toBe(bob.name);
  });

  it('may register again, as somebody else', async () => {
    const { installation } = await sharedSetting();
    await installation.startAll();
    const ada = await registered(installation);
    const accepted = await erase(installation, ada.token);
    await completed(installation, String(accepted.headers.get('location')));
    const again = await registered(installation, { email: ada.email, name: ada.name });
    expect(again.id).not.toBe(ada.id);
    const { body } = await installation.client().send('GET', '/v1/accounts/me', { token: again.token });
    expect(body).toMatchObject({ id: again.id, email: ada.email });
  });

  it('may show that it is them by a log-in of just now, in place of the password', async () => {
    const { installation } = await sharedSetting();
    await installation.start('api');
    const client = installation.client();
    const [ada, bob] = [await registered(installation), await registered(installation)];
    const eraseBy = (reauthentication: string, headers = {}) =>
      client.send('POST', '/v1/accounts/me/erasure', {
        token: ada.token,
        body: { reauthentication },
        headers,
      });
    const again = await client.logIn(ada.email, password);
    const refreshed = await client.logIn(ada.email, password);
    const { refreshToken } = refreshed.answer.body;
    const newer = await client.send('POST', '/v1/sessions/refresh', { body: { refreshToken } });
    const over = await client.logIn(ada.email, password);
    await client.send('DELETE', '/v1/sessions/current', { token: over.token });
    const old = reissued(installation, again.token, -301);
    for (const [why, token] of [
      ['the session that asks', ada.token],
      ['another person', bob.token],
      ['a session that was refreshed', String(newer.body.accessToken)],
      ['the same before that', refreshed.token],
      ['a session that has ended', over.token],
      ['a log-in of six minutes ago', old],
      ['one that is forged', `${again.token.slice(0, -4)}AAAA`],
      ['no token', 'token'],
    ] as const) {
      const answer = await eraseBy(token);
      expect([why, answer.status, answer.body.code]).toEqual([why, 401, 'wrong_credentials']);
    }
    const both = { password, reauthentication: again.token };
    const unclear = { token: ada.token, body: both };
    expect((await client.send('POST', '/v1/accounts/me/erasure', unclear)).status).toBe(400);
    expect((await client.send('GET', '/v1/accounts/me', { token: ada.token })).status).not.toBe(401);
    // One of four minutes ago, as the first token of that session, will do.
    const accepted = await eraseBy(reissued(installation, again.token, -240));
    expect([accepted.status, accepted.body]).toEqual([202, { id: ada.id, version: 2 }]);
  });

  it('whose request’s reply was lost gets it by asking again under its key, though nobody by then', async () => {
    const { installation } = await sharedSetting();
    await installation.startAll();
    const client = installation.client();
    const ada = await registered(installation);
    const ask = (key: string | undefined, with_ = password, path = '/v1/accounts/me/erasure') =>
      client.send('POST', path, {
        token: ada.token,
        body: { password: with_ },
        headers: key === undefined ? {} : { 'idempotency-key': key },
      });
    const first = await ask('"once"');
    expect(first.status).toBe(202);
    const receipt = String(first.headers.get('location'));
    await completed(installation, receipt);
    const again = await ask('"once"');
    expect([again.status, again.body]).toEqual([202, first.body]);
    expect(again.headers.get('location')).toBe(receipt);
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    // Nothing else is to be had with it.
    expect((await ask(undefined)).status).toBe(401);
    expect((await ask('"another"')).status).toBe(401);
    expect((await ask('"once"', 'another password')).status).toBe(401);
    const job = {
      token: ada.token,
      body: { type: 'echo', payload: {} },
      headers: { 'idempotency-key': '"j"' },
    };
    expect((await client.send('POST', '/v1/jobs', job)).status).toBe(401);
  });

  it('was who says so by the password, and nobody else', async () => {
    const { world, installation } = await sharedSetting({ RATE_LIMITS: 'true' });
    await installation.start('api');
    const ada = await registered(installation);
    const wrong = await erase(installation, ada.token, 'wrong horse battery');
    expect(wrong.status).toBe(401);
    expect(wrong.body.code).toBe('wrong_credentials');
    let answer = wrong;
    for (let i = 0; i < 20 && answer.status === 401; i++) {
      answer = await erase(installation, ada.token, 'wrong horse battery');
    }
    expect(answer.status).toBe(429);
    expect(await keysOf(world, ada.id)).toHaveLength(2);
  });
});

describe('what the jobs of an erased person say', () => {
  it('is sealed wherever it is kept, told to whom it is for, and gone with the key', async () => {
    const { world, installation } = await sharedSetting({
      HTTP_REQUEST_ALLOW: 'http://127.0.0.1:*',
      HTTP_REQUEST_ALLOW_PRIVATE: '127.0.0.0/8',
    });
    const roles = await installation.startAll();
    const client = installation.client();
    const ada = await registered(installation);
    const operator = await installation.operator();
    const unique = randomBytes(5).toString('hex');
    const secrets = ['payload', 'body', 'key', 'limit', 'template', 'path', 'later'].map(
      (what) => `${what}-Zx${unique}`,
    );
    const [payload, body, key, limit, template, path, later] = secrets;
    const { url, received } = await startReceiver((request, response) => {
      response.writeHead(request.url?.startsWith('/gone') ? 410 : 200).end(`you said ${body}`);
    });
    const enqueue = async (job: object, headers = {}) => {
      const answer = await client.send('POST', '/v1/jobs', { token: ada.token, body: job, headers });
      expect(answer.status).toBe(202);
      return String(answer.body.id);
    };
    const read = async (id: string, { token } = ada as { token: string }) =>
      (await client.send('GET', `/v1/jobs/${id}`, { token })).body;

    const callbackUrl = `${url}/${path}`;
    const keyed = { orderingKey: key, concurrencyKey: limit };
    const echo = await enqueue(
      { type: 'echo', payload: { said: payload, deep: [{ to: ada.email }] }, callbackUrl, ...keyed },
      { 'idempotency-key': '"once"' },
    );
    const failing = await enqueue({
      type: 'http.request',
      payload: { url: `${url}/gone/${path}`, body: { said: body } },
      orderingKey: `${key} 2`,
    });
    const waiting = await enqueue({
      type: 'echo',
      payload: { said: later },
      runAt: new Date(Date.now() + 3_600_000).toISOString(),
    });
    const schedule = await client.send('POST', '/v1/schedules', {
      token: ada.token,
      body: { cron: '0 0 1 1 *', job: { type: 'echo', payload: { said: template } } },
    });
    await waitUntil(
      async () => (await read(echo)).status === 'succeeded' && (await read(failing)).status === 'failed',
      'both to end',
      30_000,
    );
    await waitUntil(() => received.some(({ path: to }) => to === `/${path}`), 'the callback');

    // Who may read it does so.
    const result = { said: payload, deep: [{ to: ada.email }] };
    expect(await read(echo)).toMatchObject({ ...keyed, callbackUrl, result });
    expect(await read(echo, operator)).toMatchObject({ orderingKey: key, result });
    const called = received.find(({ path: to }) => to === `/${path}`);
    expect(JSON.parse(called?.body ?? '')).toMatchObject({ id: echo, status: 'succeeded', result });
    expect(received.find(({ path: to }) => to.startsWith('/gone'))?.body).toBe(
      JSON.stringify({ said: body }),
    );
    const history = await client.send('GET', `/v1/jobs/${echo}/events`, { token: ada.token });
    expect(JSON.stringify(history.body)).toContain(`"payload":${JSON.stringify(result)}`);
    const asOf = await client.send('GET', `/v1/jobs/${echo}?version=1`, { token: ada.token });
    expect(asOf.body).toMatchObject({ status: 'queued', orderingKey: key });
    const { body: letter } = await client.send('GET', `/v1/ops/dead-letters/${failing}`, operator);
    expect(letter).toMatchObject({
      orderingKey: `${key} 2`,
      error: { message: expect.stringContaining('410') },
    });
    const named = encodeURIComponent(`${key} 2`);
    const { body: found } = await client.send('GET', `/v1/ops/dead-letters?orderingKey=${named}`, operator);
    expect(found.items).toMatchObject([{ id: failing }]);
    expect((await client.send('GET', '/v1/schedules', { token: ada.token })).body.items).toMatchObject([
      { id: schedule.body.id, job: { payload: { said: template } } },
    ]);
    const shown = await installation.cli(['jobs', 'show', echo]);
    expect(shown.stdout).toContain(payload);
    const { events } = await client.exportEvents(ada.token);
    expect(JSON.stringify(events)).toContain(payload);

    // And it stands nowhere but in that file.
    const needles = [ada.email, ada.name, ...secrets];
    const before = grep(await dumpAll(world, installation.blobDir), needles);
    expect(new Set(before.map(placeOf)).size, before.join('\n')).toBe(1);
    expect(placeOf(before[0])).toMatch(/^file .*\.gz$/);
    expect(before).toHaveLength(needles.length);

    const accepted = await erase(installation, ada.token);
    const receipt = await completed(installation, String(accepted.headers.get('location')));
    expect(receipt).toMatchObject({ ended: { jobs: 4, schedules: 1, exports: 1 } });
    expect(grep(await dumpAll(world, installation.blobDir), needles)).toEqual([]);
    expect(await read(echo, operator)).toMatchObject({ orderingKey: '[erased]', result: '[erased]' });
    expect((await installation.cli(['jobs', 'show', echo])).stdout).toContain('[erased]');
    await readModelsHold(world);
    expect((await read(waiting, operator)).status).toBe('cancelled');
    expect((await read(failing, operator)).discarded).toBe(true);
    // Not even by running it again.
    expect(
      (await client.send('POST', `/v1/jobs/${waiting}/retry`, { ...operator, body: { reason: 'x' } })).status,
    ).toBe(202);
    await waitUntil(async () => (await read(waiting, operator)).version === 5, 'the retried job to end');
    expect((await read(waiting, operator)).status).toBe('cancelled');
    const logs = new Map(Object.values(roles).map(({ name, logs }) => [`log ${name}`, logs()]));
    expect(grep(logs, needles)).toEqual([]);
  });
});

it('a person whose key was damaged keeps nobody else off an operator’s list, and is shown to be at fault', async () => {
  const { world, installation } = await sharedSetting();
  await Promise.all([installation.start('api'), installation.start('projectors')]);
  const client = installation.client();
  const [ada, bob] = [await registered(installation), await registered(installation)];
  const operator = await installation.operator();
  const runAt = new Date(Date.now() + 3_600_000).toISOString();
  for (const { token, name } of [ada, bob]) {
    const body = { type: 'echo', payload: {}, runAt, orderingKey: name };
    expect((await client.send('POST', '/v1/jobs', { token, body })).status).toBe(202);
  }
  await world.db
    .updateTable('person_keys')
    .set({ wrapped_key: randomBytes(60) })
    .where('account_id', '=', ada.id)
    .execute();
  const shown = async () => {
    const { status, body } = await client.send('GET', '/v1/jobs', operator);
    expect(status).toBe(200);
    return (body.items as { orderingKey: string }[]).map(({ orderingKey }) => orderingKey).toSorted();
  };
  await expect.poll(shown, { timeout: 15_000 }).toEqual([bob.name, '[key missing]'].toSorted());
});

describe('an erasure', () => {
  it('is known from the ledger where read models lag behind: no job of theirs fails for want of the key', async () => {
    const { world, installation } = await sharedSetting();
    await installation.startAll();
    const client = installation.client();
    const ada = await registered(installation);
    const operator = await installation.operator();
    const runAt = new Date(Date.now() + 3_600_000).toISOString();
    const job = await client.send('POST', '/v1/jobs', {
      token: ada.token,
      body: { type: 'echo', payload: { said: ada.name }, runAt },
    });
    const { key } = await copied(world, ada.id);
    const pause = ['projections', 'pause', 'erasures', '--reason', 'a test', '--yes'];
    expect(await installation.cli(pause)).toMatchObject({ code: 0 });
    const accepted = await erase(installation, ada.token);
    await completed(installation, String(accepted.headers.get('location')));
    expect(await world.db.selectFrom('erasures_v1').selectAll().execute()).toEqual([]);

    // What a restore of Postgres brings back goes again all the same.
    await world.db.insertInto('person_keys').values(key).execute();
    const again = await installation.cli(['accounts', 'erase', '--reapply', '--reason', 'restored', '--yes']);
    expect(again.stdout).toContain('of 1 people');

    const path = `/v1/jobs/${job.body.id}`;
    expect((await client.send('POST', `${path}/retry`, operator)).status).toBe(202);
    const history = async () => {
      const { body } = await client.send('GET', `${path}/events`, operator);
      return body.items as { type: string; data: { payload?: unknown } }[];
    };
    await waitUntil(async () => (await history()).length === 5, 'the job to end once more');
    const events = await history();
    expect(events.map(({ type }) => type)).toEqual([
      'JobEnqueued',
      'JobCancelled',
      'JobRetried',
      'JobStarted',
      'JobCancelled',
    ]);
    expect(events[0]?.data.payload).toBe('[erased]');
  });

  it('takes away the file of an export that is done just while it looks at it', async () => {
    const { world, installation } = await sharedSetting();
    await Promise.all([installation.start('api'), installation.start('projectors')]);
    const client = installation.client();
    const ada = await registered(installation);
    const body = { dataset: 'events', format: 'ndjson' };
    const exported = await client.send('POST', '/v1/exports', { token: ada.token, body });
    const pause = ['queues', 'pause', 'default', '--reason', 'this test erases by itself', '--yes'];
    expect(await installation.cli(pause)).toMatchObject({ code: 0 });
    expect((await erase(installation, ada.token)).status).toBe(202);

    const { deps, run } = await erasureByHand(installation, ada.id);
    let done = false;
    await run({
      ...deps,
      blobs: {
        async removeFolder(folder) {
          const blobs = await deps.blobs.removeFolder(folder);
          if (done) return blobs;
          done = true;
          await installation.start('workers');
          const id: JobId = jobOfExport(streamIdOf(exported.body.id));
          await waitUntil(
            async () => jobIsFinished((await deps.commands.store.load(id, jobFold)).state),
            'the export to end, one way or the other',
          );
          return blobs;
        },
      },
    });
    expect(done).toBe(true);
    expect(grep(await dumpAll(world, installation.blobDir), [ada.email, ada.name])).toEqual([]);
  }, 60_000);

  it('discards a job that becomes a dead letter just while it looks at it', async () => {
    const { installation } = await sharedSetting({
      HTTP_REQUEST_ALLOW: 'http://127.0.0.1:*',
      HTTP_REQUEST_ALLOW_PRIVATE: '127.0.0.0/8',
    });
    await Promise.all([installation.start('api'), installation.start('projectors')]);
    const { url } = await startReceiver((_, response) => response.writeHead(410).end());
    const client = installation.client();
    const ada = await registered(installation);
    const body = { type: 'http.request', payload: { url } };
    const made = await client.send('POST', '/v1/jobs', { token: ada.token, body });
    const id: JobId = streamIdOf(made.body.id);
    const pause = ['queues', 'pause', 'default', '--reason', 'this test erases by itself', '--yes'];
    expect(await installation.cli(pause)).toMatchObject({ code: 0 });
    expect((await erase(installation, ada.token)).status).toBe(202);

    const { deps, run } = await erasureByHand(installation, ada.id);
    const { store } = deps.commands;
    const jobNow = async () => (await store.load(id, jobFold)).state;
    let seen = false;
    const load: typeof store.load = async (stream, fold) => {
      const loaded = await store.load(stream, fold);
      if (seen || stream !== id) return loaded;
      seen = true;
      await installation.start('workers');
      await waitUntil(async () => (await jobNow()).phase === 'failed', 'the job to fail');
      return loaded;
    };
    await run({ ...deps, commands: { ...deps.commands, store: { ...store, load } } });
    expect(await jobNow()).toMatchObject({ phase: 'failed', discarded: true });
  }, 60_000);

  it('takes away what an export’s writer has left half written, and what one wakes up to write', async () => {
    const { world, installation } = await sharedSetting();
    await installation.startAll();
    const ada = await registered(installation);
    const { requested } = await installation.client().exportEvents(ada.token);
    const folder = filesOf(String(requested.body.id));
    // A worker that died while it wrote, and one that was stopped.
    const dead = join(installation.blobDir, folder, '~1-Ab.ndjson.gz.0011223344556677');
    await writeFile(dead, `half of ${ada.name}`);
    const awake = Promise.withResolvers<void>();
    const written = Promise.withResolvers<void>();
    const stopped = createDiskStore(installation.blobDir).write(
      `${folder}1-Cd.ndjson.gz`,
      (async function* () {
        yield randomBytes(300_000);
        yield Buffer.from(ada.name);
        written.resolve();
        await awake.promise;
      })(),
    );
    const ended = stopped.then(
      () => 'kept',
      () => 'rejected',
    );
    await written.promise;
    expect(grep(await dumpAll(world, installation.blobDir), [ada.name])).not.toEqual([]);

    const accepted = await erase(installation, ada.token);
    await completed(installation, String(accepted.headers.get('location')));
    awake.resolve();
    expect(await ended).toBe('rejected');
    expect(grep(await dumpAll(world, installation.blobDir), [ada.email, ada.name])).toEqual([]);
  });

  it('goes on when its worker is killed in the middle of it', async () => {
    const { world, installation } = await sharedSetting();
    const { projectors, workers } = await installation.startAll();
    const ada = await registered(installation);
    const file = (await installation.client().exportEvents(ada.token)).requested;
    expect(file.status).toBe(202);
    await projectors.stop();
    const receipt = String((await erase(installation, ada.token)).headers.get('location'));
    // It has begun, and waits for the ledger.
    await waitUntil(
      async () => (await jobsInRedis(world)).some((job) => /"running".*"account\.erase"/.test(job)),
      'the erasure to begin',
    );
    await workers.kill();
    expect(await keysOf(world, ada.id)).toHaveLength(2);
    await Promise.all([installation.start('workers'), installation.start('projectors')]);
    await completed(installation, receipt);
    expect(await keysOf(world, ada.id)).toEqual([]);
    expect(grep(await dumpAll(world, installation.blobDir), [ada.email, ada.name])).toEqual([]);
  });

  it('is done by an operator, with a reason, and again after Postgres was restored to before it', async () => {
    const { world, installation } = await sharedSetting();
    const { projectors } = await installation.startAll();
    const ada = await registered(installation);
    const { key, credentials } = await copied(world, ada.id);
    const asked = ['accounts', 'erase', ada.id];
    expect((await installation.cli([...asked, '--yes'])).code).toBe(2);
    expect((await installation.cli([...asked, '--dry-run'])).stdout).toContain('would be erased');
    expect(await keysOf(world, ada.id)).toHaveLength(2);
    const done = await installation.cli([...asked, '--reason', 'by letter', '--yes']);
    expect(done.stdout).toContain('is being erased');
    const list = async () => (await installation.cli(['accounts', 'erasures', '--json'])).stdout;
    await waitUntil(async () => (await list()).includes('completedAt'), 'the erasure to be complete');
    expect(JSON.parse(await list())).toMatchObject({
      items: [{ id: ada.id, reason: 'by letter', sessions: 1 }],
    });
    await waitUntil(async () => {
      const { stdout } = await installation.cli(['ops', 'ls', '--operation', 'account.erase', '--json']);
      return stdout.includes(ada.id) && stdout.includes('by letter');
    }, 'the record of it');

    const restore = async () => {
      await world.db.insertInto('person_keys').values(key).execute();
      await world.db.insertInto('credentials').values(credentials).execute();
      expect(await keysOf(world, ada.id)).toHaveLength(2);
    };
    await projectors.stop();
    await restore();
    const again = await installation.cli(['accounts', 'erase', '--reapply', '--reason', 'restored', '--yes']);
    expect(again.stdout).toContain('of 1 people');
    expect(await keysOf(world, ada.id)).toEqual([]);
    // By itself, too.
    await restore();
    await installation.start('projectors');
    await waitUntil(async () => (await keysOf(world, ada.id)).length === 0, 'the key to go again');
  });
});

async function copied(world: World, id: string) {
  const [key, credentials] = await Promise.all([
    world.db.selectFrom('person_keys').selectAll().where('account_id', '=', id).executeTakeFirstOrThrow(),
    world.db.selectFrom('credentials').selectAll().where('account_id', '=', id).executeTakeFirstOrThrow(),
  ]);
  return { key, credentials };
}

/** What erases a person, to be run by the test itself with something of it changed. */
async function erasureByHand(installation: Installation, accountId: string) {
  const config = readConfig({ ...installation.environment, BLOB_DIR: installation.blobDir });
  const logger = createLogger({ level: 'silent', role: 'test', instanceId: 'test' });
  const parts = await openParts({ config, logger, metrics: createMetrics({ node: false }) }, 'test');
  onTestFinished(() => parts.close());
  const job = {
    id: streamIdOf(`job-00${'e'.repeat(20)}`),
    type: 'account.erase',
    payload: { accountId },
    attempt: 1,
    enqueuedAt: new Date().toISOString(),
  };
  const { signal } = new AbortController();
  return {
    deps: erasureDeps(config, parts),
    run: (deps: ErasureDeps) =>
      eraseJob(deps).perform({ job, signal, progress: () => {}, logger, idempotencyKey: 'test' }),
  };
}

function streamIdOf(text: unknown): StreamId {
  const id = parseStreamId(String(text));
  if (!id) throw new Error(`${text} is no id`);
  return id;
}

const placeOf = (found = '') => found.slice(found.indexOf(' in ') + 4);

async function rewindAll(world: World): Promise<void> {
  for (let partition = 0; partition < 4; partition++) {
    await Promise.all(
      Object.values(forEachReadModel((projection) => () => rewind(world.db, projection, partition))).map(
        (each) => each(),
      ),
    );
  }
}

/** The states of jobs that Redis holds. */
async function jobsInRedis(world: World): Promise<string[]> {
  const redis = new Redis(world.redisUrl);
  const keys = await redis.keys(`${world.prefix}:*:state:job-*`);
  const states = keys.length > 0 ? await redis.mget(keys) : [];
  redis.disconnect();
  return states.map((state) => state ?? '');
}
