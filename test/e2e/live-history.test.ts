import { randomBytes } from 'node:crypto';
import { Agent, get, type IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { Redis } from 'ioredis';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { EventId } from '../../src/domain/ids.ts';
import { streamId } from '../../src/domain/ids.ts';
import { waitUntil } from '../support/installation.ts';
import { ownRedisSetting, sharedSetting } from '../support/setting.ts';
import { openStream } from '../support/sse.ts';
import { openStore } from '../support/store.ts';

const LISTENERS = 1_000;
const echo = { type: 'echo', payload: { hello: 'world' } };
const idsOf = (text: string) => [...text.matchAll(/^id: (\d+)$/gm)].map(([, id]) => Number(id));

/** A gauge or counter of a process, without labels. */
async function metric(managementUrl: string, name: string): Promise<number> {
  const text = await (await fetch(`${managementUrl}/metrics`)).text();
  return Number(new RegExp(`^${name} (\\S+)$`, 'm').exec(text)?.[1]);
}

test('a job is followed from its request to its end, whichever process does what', async () => {
  const { installation } = await sharedSetting();
  await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  const asked = await client.send('POST', '/v1/jobs', { token, body: echo });
  const path = `${asked.headers.get('location')}/events`;
  const headers = { authorization: `Bearer ${token}`, accept: 'text/event-stream' };
  const response = await fetch(new URL(path, installation.url), { headers });
  const text = await response.text();
  const types = [...text.matchAll(/^event: (\w+)$/gm)].map(([, type]) => type);
  expect(types.at(0)).toBe('JobEnqueued');
  expect(types.at(-1)).toBe('JobCompleted');
  const list = await client.send('GET', path, { token });
  const data = [...text.matchAll(/^data: (.*)$/gm)].map(([, json]) => JSON.parse(json ?? ''));
  expect(data).toEqual(list.body.items);
  const again = await fetch(new URL(path, installation.url), {
    headers: { ...headers, 'last-event-id': String(types.length) },
  });
  expect(again.status).toBe(204);
});

test('a thousand listeners of one process hear each event once, over one connection to Redis, and leave in order when it stops', async () => {
  const { redis, installation } = await ownRedisSetting({ STREAMS_PER_ACCOUNT: '600' });
  const api = await installation.start('api');
  const client = installation.client();
  const people = await Promise.all([client.register(), client.register()]);
  const runAt = new Date(Date.now() + 3_600_000).toISOString();
  const jobs = await Promise.all(
    Array.from({ length: 20 }, async (_, index) => {
      const token = people[index % 2]?.token ?? '';
      const asked = await client.send('POST', '/v1/jobs', { token, body: { ...echo, runAt } });
      return { token, path: String(asked.headers.get('location')) };
    }),
  );
  const before = await metric(api.managementUrl, 'process_resident_memory_bytes');

  const agent = new Agent({ maxSockets: Number.POSITIVE_INFINITY });
  onTestFinished(() => agent.destroy());
  const heard: { text: string; ended: boolean }[] = [];
  const open = async (index: number) => {
    const job = jobs[index % jobs.length];
    const listener = { text: '', ended: false };
    heard.push(listener);
    const headers = { authorization: `Bearer ${job?.token}`, accept: 'text/event-stream' };
    const url = new URL(`${job?.path}/events`, installation.url);
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      get(url, { agent, headers }, resolve).on('error', reject);
    });
    expect(response.statusCode).toBe(200);
    response.setEncoding('utf8');
    response.on('data', (chunk) => (listener.text += chunk));
    response.on('end', () => (listener.ended = true));
  };
  // A hundred at a time: how fast so many arrive is not what is asked here.
  for (let from = 0; from < LISTENERS; from += 100) {
    await Promise.all(Array.from({ length: 100 }, (_, index) => open(from + index)));
  }
  const all = (ids: readonly number[]) => heard.every(({ text }) => idsOf(text).join() === ids.join());
  await waitUntil(() => all([1]), 'all to have heard the first event', 30_000);
  expect(await metric(api.managementUrl, 'millrace_streams_open')).toBe(LISTENERS);
  const grown = (await metric(api.managementUrl, 'process_resident_memory_bytes')) - before;

  const half = jobs.slice(0, 10);
  await Promise.all(half.map(({ token, path }) => client.send('POST', `${path}/cancel`, { token })));
  const ended = () => heard.filter((listener) => listener.ended).length;
  await waitUntil(() => ended() === LISTENERS / 2, 'half of them to hear the end', 15_000);
  for (const { text, ended } of heard) expect(idsOf(text)).toEqual(ended ? [1, 2] : [1]);

  const connections = new Redis(redis.url);
  const clients = String(await connections.client('LIST'));
  connections.disconnect();
  expect(clients.match(/name=api-tail/g)).toHaveLength(1);

  const stopAt = performance.now();
  expect(await api.stop()).toBe(0);
  await waitUntil(() => ended() === LISTENERS, 'the others to end with the server');
  expect(performance.now() - stopAt).toBeLessThan(5_000);
  expect(grown).toBeLessThan(150 * 1024 * 1024);
});

test('a client that stops reading is cut off and counted, while the others hear everything', async () => {
  const { world, installation } = await sharedSetting();
  const api = await installation.start('api');
  const { id: owner, token } = await installation.client().register();
  const store = await openStore(world);
  const job = streamId('job', 1, randomBytes(12).toString('hex'));
  let version = 0;
  const append = async (type: string, data: object) => {
    const meta = { schema: 1, at: new Date().toISOString(), actor: owner, owner, correlation: 'c' };
    const event = {
      id: randomBytes(8).toString('hex') as EventId,
      type,
      data: JSON.stringify(data),
      meta: JSON.stringify(meta),
    };
    const expected = version === 0 ? ({ kind: 'minted' } as const) : ({ kind: 'loaded', version } as const);
    const state = { json: '{}', fold: 1 };
    const outcome = await store.commit({
      partition: 1,
      appends: [{ streamId: job, expected, events: [event], state }],
    });
    expect(outcome.kind).toBe('committed');
    version++;
  };
  await append('JobEnqueued', { type: 'echo' });

  const path = `/v1/jobs/${job}/events`;
  const { hostname, port } = new URL(installation.url);
  const deaf = connect(Number(port), hostname);
  onTestFinished(() => void deaf.destroy());
  deaf.pause();
  deaf.on('error', () => {});
  deaf.write(
    `GET ${path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${token}\r\naccept: text/event-stream\r\n\r\n`,
  );
  const good = await openStream(new URL(path, installation.url).href, {
    authorization: `Bearer ${token}`,
    accept: 'text/event-stream',
  });
  await good.next();
  expect(await good.next()).toContain('id: 1\n');
  await vi.waitFor(
    async () => expect(await metric(api.managementUrl, 'millrace_streams_open')).toBe(2),
    10_000,
  );

  const detail = 'x'.repeat(100_000);
  const dropped = () => metric(api.managementUrl, 'millrace_streams_dropped_total');
  // What the kernel holds for both ends comes on top of what we do.
  while ((await dropped()) === 0 && version < 400) {
    await append('JobProgressed', { type: 'echo', progress: 1, detail });
    expect(await good.next()).toContain(`id: ${version}\n`);
  }
  expect(await dropped()).toBe(1);
  await append('JobCompleted', { type: 'echo', result: null });
  expect(await good.next()).toContain('event: JobCompleted');
  expect(await good.next()).toBeUndefined();
  await vi.waitFor(
    async () => expect(await metric(api.managementUrl, 'millrace_streams_open')).toBe(0),
    10_000,
  );
});
