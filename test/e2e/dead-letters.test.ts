import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it, onTestFinished } from 'vitest';
import { waitUntil } from '../support/installation.ts';
import { sharedSetting } from '../support/setting.ts';

const run = promisify(execFile);

/** Somebody to call, who is down at first. */
async function receiver() {
  let up = false;
  const calls: string[] = [];
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const chunk of request.setEncoding('utf8')) body += chunk;
    calls.push(JSON.parse(body).name);
    response.writeHead(up ? 200 : 500).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => void server.close());
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}/hook`,
    origin: `http://127.0.0.1:${port}`,
    calls,
    comeBack() {
      up = true;
      calls.length = 0;
    },
  };
}

/** The commands of a page, in their order. */
async function commandsOf(page: string): Promise<string[]> {
  const text = await readFile(join(import.meta.dirname, '..', '..', page), 'utf8');
  return [...text.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, command = '']) => command);
}

describe('docs/runbooks/dead-letters.md', () => {
  it('leads from dead letters to jobs that ran, by commands that work as they stand', async () => {
    const hook = await receiver();
    const { installation } = await sharedSetting({
      HTTP_REQUEST_ALLOW: hook.origin,
      HTTP_REQUEST_ALLOW_PRIVATE: '127.0.0.1/32',
    });
    await installation.startAll();
    const client = installation.client();
    const ada = await client.register();
    const { token } = await installation.operator();
    const enqueue = async (name: string, more = {}) => {
      const body = {
        type: 'http.request',
        maxAttempts: 1,
        payload: { url: hook.url, body: { name } },
        ...more,
      };
      const { status, body: answer } = await client.send('POST', '/v1/jobs', { token: ada.token, body });
      if (status !== 202) throw new Error(JSON.stringify(answer));
      return String(answer.id);
    };
    const read = async (id: string) =>
      (await client.send('GET', `/v1/jobs/${id}`, { token: ada.token })).body;
    const letters = async (query = '') =>
      (await client.send('GET', `/v1/ops/dead-letters${query}`, { token })).body.items as {
        id: string;
        waiting: number;
      }[];

    // They die in this order.
    const first = await enqueue('first', { orderingKey: 'order 7' });
    await waitUntil(async () => (await letters()).length === 1, 'the first dead letter', 30_000);
    const other = await enqueue('other');
    await waitUntil(async () => (await letters()).length === 2, 'two dead letters', 30_000);
    const followers = [
      await enqueue('second', { orderingKey: 'order 7' }),
      await enqueue('third', { orderingKey: 'order 7' }),
    ];
    await waitUntil(
      async () => (await Promise.all(followers.map(read))).every(({ parked }) => parked === true),
      'the followers to be parked',
      30_000,
    );
    const holder = (await letters('?orderingKey=order%207'))[0];
    expect(holder).toMatchObject({
      id: first,
      waiting: 2,
      attempts: 1,
      reason: 'attempts',
      queue: 'webhooks',
    });

    const environment = { PATH: process.env.PATH ?? '', URL: installation.url, TOKEN: token, JOB: first };
    const sh = async (command: string | undefined) => {
      if (command === undefined) throw new Error('the page has fewer commands');
      const script = `set -euo pipefail\n${command}`;
      return (await run('bash', ['-c', script], { env: environment, timeout: 60_000 })).stdout;
    };
    const [list, show, pause, resume, foresee, redrive, discard, ...rest] = await commandsOf(
      'docs/runbooks/dead-letters.md',
    );
    expect(rest).toEqual([]);
    // Both died of one thing.
    expect((await sh(list)).trim().split('\n')).toHaveLength(1);
    expect(await sh(list)).toMatch(/^2\thttp\.request\t\w+\t2\t/);
    expect(JSON.parse(await sh(show))).toMatchObject({ attempt: 1, final: true, worker: expect.any(String) });
    expect(JSON.parse(await sh(pause))).toMatchObject({ id: 'webhooks', paused: true });
    hook.comeBack();
    expect(JSON.parse(await sh(resume))).toMatchObject({ id: 'webhooks', paused: false });
    expect(JSON.parse(await sh(foresee))).toMatchObject({ count: 2, sample: [{ id: first }, { id: other }] });
    expect(JSON.parse(await sh(redrive))).toEqual({ done: 2, failed: 0, total: 2 });
    await waitUntil(
      async () =>
        (await Promise.all([first, other, ...followers].map(read))).every(
          ({ status }) => status === 'succeeded',
        ),
      'all jobs to succeed',
      30_000,
    );
    expect(hook.calls.filter((name) => name !== 'other')).toEqual(['first', 'second', 'third']);
    expect(JSON.parse(await sh(discard))).toEqual({ count: 0, sample: [] });
    expect(await sh(list)).toBe('');
    expect((await letters('?status=redriven')).map(({ id }) => id).toSorted()).toEqual(
      [first, other].toSorted(),
    );
  }, 180_000);
});

describe('redriving many dead letters', () => {
  it('is done once for each, though the worker that does it is killed in the middle', async () => {
    const hook = await receiver();
    const { world, installation } = await sharedSetting({
      HTTP_REQUEST_ALLOW: hook.origin,
      HTTP_REQUEST_ALLOW_PRIVATE: '127.0.0.1/32',
    });
    // Its successor of the same name need not wait for its leases to run out.
    const startWorkers = () => installation.start('workers', { INSTANCE_ID: 'one' });
    const [workers] = await Promise.all([
      startWorkers(),
      installation.start('api'),
      installation.start('projectors'),
    ]);
    const client = installation.client();
    const { token } = await installation.operator();
    const jobs = Array.from({ length: 40 }, (_, n) => ({
      type: 'http.request',
      maxAttempts: 1,
      payload: { url: hook.url, body: { name: `job ${n}` } },
    }));
    await client.send('POST', '/v1/jobs/batch', { token, body: { jobs } });
    const letters = async (status: string) =>
      (await client.send('GET', `/v1/ops/dead-letters?limit=200&status=${status}`, { token })).body
        .items as object[];
    await waitUntil(async () => (await letters('dead')).length === 40, '40 dead letters', 60_000);
    hook.comeBack();
    const body = { filter: { all: true }, reason: 'the receiver is back', rate: 10 };
    const asked = await client.send('POST', '/v1/ops/dead-letters/redrive', { token, body });
    expect(asked.status).toBe(202);
    await waitUntil(async () => (await letters('redriven')).length >= 5, 'some to be redriven', 30_000);
    await workers.kill();
    expect((await letters('dead')).length).toBeGreaterThan(0);
    await startWorkers();

    const read = async () =>
      (await client.send('GET', String(asked.headers.get('location')), { token })).body;
    await waitUntil(async () => (await read()).status === 'succeeded', 'the redrive to end', 60_000);
    expect((await read()).result).toEqual({ done: 40, failed: 0, total: 40 });
    const retried = async () =>
      (
        await world.db.selectFrom('ledger').select('stream_id').where('type', '=', 'JobRetried').execute()
      ).map(({ stream_id }) => stream_id);
    await waitUntil(async () => (await retried()).length >= 40, 'the ledger', 30_000);
    expect([(await retried()).length, new Set(await retried()).size]).toEqual([40, 40]);
    // A recovery: so this ran in a process of its own.
    const recoveries = await world.db
      .selectFrom('ledger')
      .select('data')
      .where('stream_id', '=', String(asked.body.id))
      .where('type', '=', 'JobStarted')
      .execute();
    expect(recoveries.map(({ data }) => JSON.parse(data).alone)).toContain(true);
  }, 180_000);
});
