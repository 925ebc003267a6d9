import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { sql } from 'kysely';
import { expect, onTestFinished, test } from 'vitest';
import { waitUntil } from '../support/installation.ts';
import { ownRedisSetting, sharedSetting } from '../support/setting.ts';
import { openStream } from '../support/sse.ts';

type Item = {
  id: string;
  type: string;
  streamId: string;
  correlationId: string;
  time: string;
  position: string;
};

const echo = { type: 'echo', payload: {} };

test('operators read all events by type, stream, request and time, from files, ledger and log alike', async () => {
  const { installation, world } = await sharedSetting();
  await installation.startAll();
  const client = installation.client();
  const { token } = await installation.operator();
  const { token: user } = await client.register();
  const asked: { id: string; position: string }[] = [];
  for (let n = 0; n < 30; n++) {
    const { body, headers } = await client.send('POST', '/v1/jobs', { token: user, body: echo });
    asked.push({ id: String(body.id), position: String(headers.get('position')) });
  }
  const job = asked[0]?.id ?? '';
  const read = async (query: string) => {
    const { status, body } = await client.send('GET', `/v1/ops/events?${query}`, { token });
    expect([query, status]).toEqual([query, 200]);
    return body as { items: Item[]; nextCursor?: string; complete: boolean };
  };
  const all = async (query: string, limit = 7) => {
    const items: Item[] = [];
    for (let cursor = ''; ; ) {
      const page = await read(`${query}&limit=${limit}${cursor}`);
      items.push(...page.items);
      expect(page.complete).toBe(true);
      if (!page.nextCursor) return items;
      cursor = `&cursor=${encodeURIComponent(page.nextCursor)}`;
    }
  };
  await waitUntil(async () => (await all('type=JobCompleted', 200)).length === 30, 'all jobs to end');

  const before = await all('type=JobEnqueued');
  expect(before.map(({ streamId }) => streamId).sort()).toEqual(asked.map(({ id }) => id).sort());
  expect(new Set(before.map(({ position }) => position))).toEqual(
    new Set(asked.map(({ position }) => position)),
  );
  expect(before.map(({ time }) => time)).toEqual(before.map(({ time }) => time).toSorted());
  const everything = await all('');

  // Files, the table, and the log: the same events.
  await waitUntil(async () => {
    const { rows } = await sql<{ n: number }>`SELECT count(*) AS n FROM ledger`.execute(world.db);
    return rows[0]?.n === everything.length;
  }, 'the ledger to have it all');
  const archive = ['ledger', 'archive', '--before', '0s', '--keep', '3', '--reason', 'a test', '--yes'];
  expect(await installation.cli(archive)).toMatchObject({ code: 0 });
  const { rows } = await sql<{ n: number }>`SELECT count(*) AS n FROM ledger_archives`.execute(world.db);
  expect(rows[0]?.n).toBeGreaterThan(0);
  expect(await all('type=JobEnqueued')).toEqual(before);
  const type = ({ type }: Item) => type !== 'OperationRecorded';
  expect((await all('')).filter(type)).toEqual(everything.filter(type));

  const [first] = before;
  const followed = await all(`correlationId=${first?.correlationId}`);
  expect(followed.map(({ type }) => type)).toEqual(['JobEnqueued', 'JobStarted', 'JobCompleted']);
  expect(await all(`streamId=${first?.streamId}`)).toEqual(followed);
  const middle = before[15]?.time ?? '';
  expect(await all(`type=JobEnqueued&from=${middle}`)).toEqual(before.filter(({ time }) => time >= middle));
  expect(await all(`type=JobEnqueued&to=${middle}`)).toEqual(before.filter(({ time }) => time < middle));

  const stream = await client.send('GET', `/v1/ops/streams/${job}`, { token });
  expect(stream.body).toMatchObject({ id: job, kind: 'job', partition: expect.any(Number) });
  expect((stream.body.items as Item[]).map(({ type }) => type)).toEqual([
    'JobEnqueued',
    'JobStarted',
    'JobCompleted',
  ]);
  const short = await client.send('GET', `/v1/ops/streams/${job}?limit=2`, { token });
  const rest = await client.send('GET', `/v1/ops/streams/${job}?cursor=${short.body.nextCursor}`, { token });
  expect([...(short.body.items as Item[]), ...(rest.body.items as Item[])]).toEqual(stream.body.items);

  const cli = await installation.cli(['events', 'read', '--type', 'JobEnqueued', '--all', '--json']);
  expect([cli.code, cli.stderr]).toEqual([0, '']);
  expect(
    cli.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line)),
  ).toEqual(before);
  const some = await installation.cli(['events', 'read', '--limit', '2', '--type', 'JobEnqueued']);
  const [, cursor = ''] = /--cursor (\S+)/.exec(some.stderr) ?? [];
  expect(some.stdout.split('\n')[0]).toMatch(/^TIME \(UTC\) +POSITION +TYPE +STREAM/);
  const next = await installation.cli([
    'events',
    'read',
    '--limit',
    '1',
    '--type',
    'JobEnqueued',
    '--json',
    '--cursor',
    cursor,
  ]);
  expect(JSON.parse(next.stdout)).toEqual(before[2]);
  const shown = await installation.cli(['streams', 'show', job, '--json']);
  expect(
    shown.stdout
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line)),
  ).toEqual(stream.body.items);
  expect((await installation.cli(['streams', 'show', 'job-00aaaaaaaaaaaaaaaaaaaa'])).code).toBe(1);
  expect((await installation.cli(['streams', 'show', 'nothing'])).code).toBe(2);
  expect((await installation.cli(['events', 'read', '--cursor', 'nonsense'])).code).toBe(2);

  for (const [path, status] of [
    ['/v1/ops/events?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z', 400],
    ['/v1/ops/events?cursor=nonsense', 400],
    [`/v1/ops/events?cursor=${short.body.nextCursor}`, 400],
    ['/v1/ops/events?streamId=nothing', 400],
    ['/v1/ops/events?limit=0', 400],
    ['/v1/ops/events?kind=job', 400],
    ['/v1/ops/streams/nothing', 404],
    ['/v1/ops/streams/job-00aaaaaaaaaaaaaaaaaaaa', 404],
    ['/v1/ops/streams/job-zzaaaaaaaaaaaaaaaaaaaa', 404],
    [`/v1/ops/streams/${job}?cursor=nonsense`, 400],
  ] as const) {
    expect([path, (await client.send('GET', path, { token })).status]).toEqual([path, status]);
  }
  for (const path of ['/v1/ops/events', `/v1/ops/streams/${job}`]) {
    expect((await client.send('GET', path, { token: user })).status).toBe(403);
    expect((await client.send('GET', path)).status).toBe(401);
  }
});

test('events are followed live over all streams, and who comes back misses nothing and is told nothing twice', async () => {
  const { installation } = await sharedSetting();
  let api = await installation.start('api');
  await installation.start('projectors');
  const client = installation.client();
  const { token } = await installation.operator();
  const { token: user } = await client.register();
  const headers = { authorization: `Bearer ${token}`, accept: 'text/event-stream' };
  const open = async (query: string, lastEventId?: string) => {
    const url = new URL(`/v1/ops/events${query}`, installation.url).href;
    const stream = await openStream(url, {
      ...headers,
      ...(lastEventId ? { 'last-event-id': lastEventId } : {}),
    });
    expect(stream.response.status).toBe(200);
    onTestFinished(() => stream.leave());
    return stream;
  };
  const runAt = new Date(Date.now() + 3_600_000).toISOString();
  const enqueue = async () =>
    String((await client.send('POST', '/v1/jobs', { token: user, body: { ...echo, runAt } })).body.id);
  const idOf = (text: string | undefined) => /^id: (.*)$/m.exec(text ?? '')?.[1] ?? '';
  const streamOf = (text: string | undefined) =>
    JSON.parse(/^data: (.*)$/m.exec(text ?? '')?.[1] ?? '{}').streamId;

  await enqueue();
  const stream = await open('?type=JobEnqueued');
  expect(await stream.next()).toMatch(/^retry: /);
  const beginning = idOf(await stream.next());
  const told: string[] = [];
  const asked = [await enqueue(), await enqueue()];
  let last = '';
  for (const id of asked) {
    const text = await stream.next();
    expect([text?.includes('event: JobEnqueued'), streamOf(text)]).toEqual([true, id]);
    told.push(streamOf(text));
    last = idOf(text);
  }
  stream.leave();
  await api.stop();
  api = await installation.start('api');
  asked.push(await enqueue(), await enqueue());
  const again = await open('?type=JobEnqueued', last);
  await again.next();
  await again.next();
  for (let n = 0; n < 2; n++) told.push(streamOf(await again.next()));
  asked.push(await enqueue());
  told.push(streamOf(await again.next()));
  expect(told).toEqual(asked);

  // Who was told nothing yet comes back to where it began; a page's cursor will do, too; an id of nobody's is said so.
  const anew = await open('?type=JobEnqueued', beginning);
  await anew.next();
  await anew.next();
  const all: string[] = [];
  for (let n = 0; n < 5; n++) all.push(streamOf(await anew.next()));
  expect(all.sort()).toEqual([...asked].sort());
  const page = await client.send('GET', '/v1/ops/events?type=JobEnqueued&limit=1', { token });
  const from = await open('?type=JobEnqueued', String(page.body.nextCursor));
  await from.next();
  await from.next();
  expect(asked).toContain(streamOf(await from.next()));
  const unknown = await open('?type=JobEnqueued', 'nonsense');
  await unknown.next();
  expect(await unknown.next()).toContain('event: resync');

  const one = await openStream(new URL(`/v1/ops/streams/${asked[0]}`, installation.url).href, headers);
  onTestFinished(() => one.leave());
  await one.next();
  expect(await one.next()).toMatch(/^id: 1\nevent: JobEnqueued/);
  await client.send('POST', `/v1/jobs/${asked[0]}/cancel`, { token: user });
  expect(await one.next()).toMatch(/^id: 2\nevent: JobCancelled/);

  for (const query of ['?to=2100-01-01T00:00:00Z', '?limit=3', '?from=never']) {
    expect((await client.send('GET', `/v1/ops/events${query}`, { token, headers })).status).toBe(400);
  }
  const ticket = await client.send('POST', '/v1/stream-tickets', { token, body: { path: '/v1/ops/events' } });
  const ticketed = new URL(`/v1/ops/events?ticket=${ticket.body.ticket}`, installation.url).href;
  const byTicket = await openStream(ticketed, { accept: 'text/event-stream' });
  onTestFinished(() => byTicket.leave());
  expect(byTicket.response.status).toBe(200);
});

test('events are followed by the command line until it is told to end; and read while Redis is away', async () => {
  const { installation, redis } = await ownRedisSetting();
  await Promise.all([installation.start('api'), installation.start('projectors')]);
  const client = installation.client();
  const { token } = await client.register();
  const tail = spawn(
    process.execPath,
    ['src/cli/main.ts', 'events', 'tail', '--from', '1h', '--type', 'JobEnqueued', '--json'],
    {
      cwd: join(import.meta.dirname, '..', '..'),
      env: { PATH: process.env.PATH ?? '', ...installation.environment },
    },
  );
  onTestFinished(() => void tail.kill('SIGKILL'));
  let output = '';
  tail.stdout.on('data', (chunk) => (output += chunk));
  const { body } = await client.send('POST', '/v1/jobs', { token, body: echo });
  await waitUntil(() => output.includes('\n'), 'the event', 20_000);
  expect(JSON.parse(output)).toMatchObject({ type: 'JobEnqueued', streamId: body.id });
  tail.kill('SIGINT');
  expect(await once(tail, 'exit')).toEqual([0, null]);

  await waitUntil(
    async () => (await installation.cli(['verify', 'ledger'])).code === 0,
    'the ledger to be whole',
  );
  await redis.stop();
  const read = await installation.cli(['events', 'read', '--type', 'JobEnqueued', '--json']);
  expect([read.code, read.stderr]).toEqual([0, expect.stringContaining('Redis can’t be read')]);
  expect(JSON.parse(read.stdout)).toMatchObject({ streamId: body.id });
  expect((await installation.cli(['streams', 'show', String(body.id)])).code).toBe(0);
});
