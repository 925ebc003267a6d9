import { Redis } from 'ioredis';
import { describe, expect, it, onTestFinished } from 'vitest';
import { type ExportId, type JobId, jobOfExport, partitionOf } from '../../src/domain/ids.ts';
import { createKeys } from '../../src/eventstore/partitions.ts';
import type { Answer, Client, Person } from '../support/client.ts';
import { waitUntil } from '../support/installation.ts';
import { sharedSetting } from '../support/setting.ts';

const FINAL = ['succeeded', 'failed', 'cancelled'];

function enqueue(client: Client, { token }: Person, body: object, headers = {}) {
  return client.send('POST', '/v1/jobs', { token, body: { type: 'echo', payload: {}, ...body }, headers });
}

async function finished(client: Client, { token }: Person, id: string): Promise<Answer['body']> {
  let { body } = await client.send('GET', `/v1/jobs/${id}`, { token });
  await waitUntil(async () => {
    ({ body } = await client.send('GET', `/v1/jobs/${id}`, { token }));
    return FINAL.includes(String(body.status));
  }, 'the job to end');
  return body;
}

const readEvents = async (client: Client, { token }: Person, id: string) => {
  const { body } = await client.send('GET', `/v1/jobs/${id}/events`, { token });
  return body.items as { type: string; version: number; time: string; data: object }[];
};

describe('a job', () => {
  it('that anybody may run is taken, run, and read with its result', async () => {
    const { installation } = await sharedSetting();
    await installation.startAll();
    const client = installation.client();
    const ada = await client.register();
    const payload = { hello: ['wörld', { deep: true }] };
    const accepted = await enqueue(client, ada, { payload }, { 'idempotency-key': '"once"' });
    expect(accepted.status).toBe(202);
    expect(accepted.headers.get('location')).toBe(`/v1/jobs/${accepted.body.id}`);
    expect(accepted.headers.get('etag')).toBe('"1"');

    // Read at once, by the position that was answered.
    const headers = { 'consistent-with': String(accepted.headers.get('position')) };
    const read = await client.send('GET', `/v1/jobs/${accepted.body.id}`, { token: ada.token, headers });
    expect(read.status).toBe(200);
    expect(await finished(client, ada, String(accepted.body.id))).toMatchObject({
      type: 'echo',
      queue: 'default',
      status: 'succeeded',
      attempts: 1,
      result: payload,
    });

    const events = await readEvents(client, ada, String(accepted.body.id));
    expect(events.map(({ type }) => type)).toEqual(['JobEnqueued', 'JobStarted', 'JobCompleted']);
    for (const [at, status] of ['queued', 'running', 'succeeded'].entries()) {
      const path = `/v1/jobs/${accepted.body.id}?version=${at + 1}`;
      const then = await client.send('GET', path, { token: ada.token });
      expect(then.body).toMatchObject({ status, version: at + 1 });
    }
    const at = (time: string) =>
      client.send('GET', `/v1/jobs/${accepted.body.id}?at=${time}`, { token: ada.token });
    expect((await at(String(events.at(-1)?.time))).body).toEqual(
      (await client.send('GET', `/v1/jobs/${accepted.body.id}`, { token: ada.token })).body,
    );
    expect((await at('2020-01-01T00:00:00Z')).status).toBe(404);
    expect(
      (await client.send('GET', `/v1/jobs/${accepted.body.id}?version=4`, { token: ada.token })).status,
    ).toBe(404);

    const again = await enqueue(client, ada, { payload }, { 'idempotency-key': '"once"' });
    expect(again.body).toEqual(accepted.body);
    expect(again.headers.get('idempotency-replayed')).toBe('true');
    const other = await enqueue(client, ada, { payload: {} }, { 'idempotency-key': '"once"' });
    expect(other.status).toBe(422);
    const bob = await client.register();
    const unseen = await client.send('GET', `/v1/jobs/${accepted.body.id}`, { token: bob.token });
    expect(unseen.status).toBe(404);
    for (const change of ['cancel', 'retry']) {
      const path = `/v1/jobs/${accepted.body.id}/${change}`;
      expect((await client.send('POST', path, { token: bob.token })).status).toBe(404);
      expect((await client.send('POST', path, { token: ada.token })).status).toBe(409);
    }
  });

  it('with a time waits for it, and starts when it has come; one that is cancelled before never starts', async () => {
    const { world, installation } = await sharedSetting();
    await installation.startAll();
    const client = installation.client();
    const ada = await client.register();
    const runAt = new Date(Date.now() + 2_000);
    const [due, cancelled] = await Promise.all(
      [1, 2].map((n) => enqueue(client, ada, { payload: { n }, runAt: runAt.toISOString() })),
    );
    if (!due || !cancelled) throw new Error('nothing was answered');
    expect(due.body.status).toBe('scheduled');
    const cancel = `/v1/jobs/${cancelled.body.id}/cancel`;
    expect((await client.send('POST', cancel, { token: ada.token })).body.status).toBe('cancelled');
    const job = await finished(client, ada, String(due.body.id));
    expect(job.status).toBe('succeeded');
    const startedAt = Date.parse(String(job.startedAt));
    // Far sooner than who has not heard of the timer would look.
    expect(startedAt).toBeGreaterThanOrEqual(runAt.getTime());
    expect(startedAt).toBeLessThan(runAt.getTime() + 10_000);
    const events = await world.db
      .selectFrom('ledger')
      .select('type')
      .where('stream_id', '=', String(cancelled.body.id))
      .orderBy('version')
      .execute();
    expect(events.map(({ type }) => type)).toEqual(['JobEnqueued', 'JobCancelled']);
  });

  it('that runs in another process is stopped there when it is cancelled, and can be run again', async () => {
    const { world, installation } = await sharedSetting();
    // The ledger stands still, so the export waits in the middle of its run.
    await Promise.all([installation.start('api'), installation.start('workers')]);
    const client = installation.client();
    const ada = await client.register();
    const requested = await client.send('POST', '/v1/exports', {
      token: ada.token,
      body: { dataset: 'events', format: 'ndjson' },
    });
    const id = String(requested.body.id);
    const jobId: JobId = jobOfExport(id as ExportId);
    const redis = new Redis(world.redisUrl);
    onTestFinished(() => redis.disconnect());
    const keys = createKeys(world.prefix, 4)[partitionOf(jobId)];
    const state = async () => (await redis.get(keys?.state(jobId) ?? '')) ?? '';
    await waitUntil(async () => (await state()).includes('"phase":"running"'), 'the job to run');
    const asked = Date.now();
    const answer = await client.send('POST', `/v1/jobs/${jobId}/cancel`, { token: ada.token });
    expect(answer).toMatchObject({ status: 202, body: { id: jobId, status: 'running' } });
    await waitUntil(async () => (await state()).includes('"phase":"cancelled"'), 'the job to be cancelled');
    // By the hint, and not by the look every five seconds.
    expect(Date.now() - asked).toBeLessThan(4_000);
    expect(await redis.xlen(keys?.work('exports', 'normal') ?? '')).toBe(0);

    await installation.start('projectors');
    expect((await client.finishedExport(id, ada.token)).body.status).toBe('cancelled');
    const retried = await client.send('POST', `/v1/jobs/${jobId}/retry`, { token: ada.token });
    expect(retried).toMatchObject({ status: 202, body: { status: 'queued' } });
    const position = String(retried.headers.get('position'));
    await client.send('GET', `/v1/exports/${id}`, {
      token: ada.token,
      headers: { 'consistent-with': position },
    });
    const done = await client.finishedExport(id, ada.token);
    expect(done.body).toMatchObject({ status: 'succeeded', attempts: 2 });
    // What a retry begins anew overwrites nothing of what was before.
    const events = (await readEvents(client, ada, jobId)).map(({ type }) => type);
    expect(events.filter((type) => type !== 'JobProgressed')).toEqual([
      'JobEnqueued',
      'JobStarted',
      'JobCancelRequested',
      'JobCancelled',
      'JobRetried',
      'JobStarted',
      'JobCompleted',
    ]);
  });

  it('may come with a thousand others in one request, each run once, however often the batch is sent', async () => {
    const { world, installation } = await sharedSetting();
    await installation.startAll();
    const client = installation.client();
    const ada = await client.register();
    const jobs: object[] = Array.from({ length: 1_000 }, (_, n) => ({ type: 'echo', payload: { n } }));
    jobs[7] = { type: 'echo', payload: 'wrong' };
    const send = () =>
      client.send('POST', '/v1/jobs/batch', {
        token: ada.token,
        body: { jobs },
        headers: { 'idempotency-key': '"all"' },
      });
    const first = await send();
    expect(first.status).toBe(207);
    const items = first.body.items as { status: number; id?: string }[];
    expect(items.filter(({ status }) => status === 202)).toHaveLength(999);
    expect(items[7]).toMatchObject({ status: 400 });
    const again = await send();
    expect((again.body.items as { id?: string }[]).map(({ id }) => id)).toEqual(items.map(({ id }) => id));

    // As a whole, the answer's positions are what a query of one's own writes brings.
    const headers = { 'consistent-with': String(first.headers.get('position')), prefer: 'wait=30' };
    const listed = await client.send('GET', '/v1/jobs?limit=1', { token: ada.token, headers });
    expect(listed.status).toBe(200);
    const count = () =>
      world.db
        .selectFrom('jobs_v2')
        .select((eb) => eb.fn.countAll<string>().as('n'))
        .where('owner', '=', ada.id);
    expect(Number((await count().executeTakeFirstOrThrow()).n)).toBe(999);
    await waitUntil(
      async () =>
        Number((await count().where('status', '=', 'succeeded').executeTakeFirstOrThrow()).n) === 999,
      'all jobs to succeed',
      60_000,
    );
    const completed = async () => {
      const { n } = await world.db
        .selectFrom('ledger')
        .select((eb) => eb.fn.countAll<string>().as('n'))
        .where('owner', '=', ada.id)
        .where('type', '=', 'JobCompleted')
        .executeTakeFirstOrThrow();
      return Number(n);
    };
    await waitUntil(async () => (await completed()) >= 999, 'the ledger');
    expect(await completed()).toBe(999);
  });
});
