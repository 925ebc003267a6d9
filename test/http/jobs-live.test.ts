import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { RawEvent } from '../../src/domain/event.ts';
import { createStreams } from '../../src/http/draining.ts';
import { type FollowJob, liveEvents } from '../../src/http/jobs/live.ts';
import type { FollowStep } from '../../src/http/live-events.ts';
import { wantsStream } from '../../src/http/streams.ts';
import { openStream } from '../support/sse.ts';
import { event, owner } from './job-events.ts';
import { everyRoute, jobId } from './routes.ts';

/** A history that a test adds to, followed by polling: what is under test is what HTTP makes of it. */
function history(first: readonly RawEvent[]) {
  const events = [...first];
  let following = 0;
  const followJob: FollowJob = async function* (_id, { after, signal }) {
    following++;
    let sent = after;
    try {
      while (!signal.aborted) {
        const fresh = events.slice(sent);
        sent = events.length;
        if (fresh.length > 0) yield { kind: 'events', events: fresh, caughtUp: true };
        else await sleep(5);
      }
    } finally {
      following--;
    }
  };
  return { events, followJob, following: () => following };
}

async function serve(first: readonly RawEvent[], options: { perAccount?: number; follow?: FollowJob } = {}) {
  const { events, followJob, following } = history(first);
  let dropped = 0;
  let open = 0;
  const streams = createStreams({
    ...(options.perAccount === undefined ? {} : { perAccount: options.perAccount }),
    metrics: {
      openStreams: { set: (count) => (open = count) },
      droppedStreams: { inc: () => dropped++ },
    },
  });
  const { app, login } = everyRoute({
    readHistory: async (_id, { after, limit }) => events.slice(after, after + limit),
    followJob: options.follow ?? followJob,
    streams,
    server: { streams },
  });
  const base = await app.listen({ port: 0, host: '127.0.0.1' });
  onTestFinished(() => app.close());
  const { authorization, accountId } = await login();
  owner.accountId = accountId;
  events.splice(
    0,
    events.length,
    ...first.map(({ version, type, data }) => event(version, type, JSON.parse(data))),
  );
  const path = `/v1/jobs/${jobId}/events`;
  const follow = (headers: Record<string, string> = {}, query = '') =>
    openStream(`${base}${path}${query}`, { authorization, accept: 'text/event-stream', ...headers });
  return {
    app,
    base,
    path,
    events,
    follow,
    authorization,
    following,
    open: () => open,
    dropped: () => dropped,
  };
}

describe('the history of a job, live', () => {
  test('begins with the first event, goes on as it happens, and ends with the job; 204 to who comes back', async () => {
    const { events, follow, following, open } = await serve([
      event(1, 'JobEnqueued'),
      event(2, 'JobStarted'),
    ]);
    const stream = await follow();
    expect(stream.response.status).toBe(200);
    expect(Object.fromEntries(stream.response.headers)).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
      vary: expect.stringContaining('accept'),
    });
    expect(await stream.next()).toBe('retry: 2000');
    expect(await stream.next()).toMatch(
      /^id: 1\nevent: JobEnqueued\ndata: \{"id":"e1".*"position":"3\.1\.10".*\}$/,
    );
    expect(await stream.next()).toMatch(/^id: 2\nevent: JobStarted\n/);
    expect(open()).toBe(1);
    const error = { name: 'Error', message: 'no room', stack: 'at /srv/secret.ts' };
    events.push(event(3, 'JobDeadLettered', { error }));
    const last = await stream.next();
    expect(last).toMatch(/^id: 3\nevent: JobDeadLettered\n.*no room/);
    expect(last).not.toContain('secret');
    expect(await stream.next()).toBeUndefined();
    await expect.poll(() => [following(), open()]).toEqual([0, 0]);
    expect((await follow({ 'last-event-id': '3' })).response.status).toBe(204);
    expect((await follow({}, '?lastEventId=3')).response.status).toBe(204);
  });

  test('of a job that was run again after its end goes on beyond it', async () => {
    const { events, follow } = await serve([
      event(1, 'JobEnqueued'),
      event(2, 'JobCancelled'),
      event(3, 'JobRetried'),
    ]);
    const whole = await follow();
    const resumed = await follow({ 'last-event-id': '2' });
    for (const expected of ['retry', 'id: 1', 'id: 2', 'id: 3'])
      expect(await whole.next()).toContain(expected);
    for (const expected of ['retry', 'id: 3']) expect(await resumed.next()).toContain(expected);
    events.push(event(4, 'JobCompleted', { result: null }));
    for (const stream of [whole, resumed]) {
      expect(await stream.next()).toMatch(/^id: 4\n/);
      expect(await stream.next()).toBeUndefined();
    }
  });

  test('where the id is nothing of ours, begins anew and says so', async () => {
    const { follow } = await serve([event(1, 'JobEnqueued')]);
    const stream = await follow({ 'last-event-id': 'nonsense' });
    for (const expected of ['retry: 2000', 'event: resync\ndata: {}', 'id: 1']) {
      expect(await stream.next()).toContain(expected);
    }
    stream.leave();
  });

  test('is a list for who does not ask for a stream, and nothing of a HEAD is left open', async () => {
    const { base, path, authorization, follow, open } = await serve([event(1, 'JobEnqueued')]);
    for (const accept of ['*/*', 'application/json', 'text/event-stream;q=0, */*']) {
      const response = await fetch(`${base}${path}`, { headers: { authorization, accept } });
      expect(response.headers.get('content-type')).toContain('application/json');
      expect(await response.json()).toMatchObject({ items: [{ version: 1 }] });
    }
    const headers = { authorization, accept: 'text/event-stream' };
    expect((await fetch(`${base}${path}`, { method: 'HEAD', headers })).status).toBe(200);
    expect(open()).toBe(0);
    (await follow()).leave();
  });

  test('takes a ticket where there is no header; somebody else’s job is not there', async () => {
    const { app, base, path, authorization } = await serve([
      event(1, 'JobEnqueued'),
      event(2, 'JobCancelled'),
    ]);
    const issued = await app.inject({
      method: 'POST',
      url: '/v1/stream-tickets',
      payload: { path },
      headers: { authorization },
    });
    const ticket = encodeURIComponent(issued.json().ticket);
    const accept = 'text/event-stream';
    const stream = await openStream(`${base}${path}?ticket=${ticket}`, { accept });
    for (const expected of ['retry', 'id: 1', 'id: 2']) expect(await stream.next()).toContain(expected);
    expect((await fetch(`${base}${path}`, { headers: { accept } })).status).toBe(401);
    owner.accountId = 'acc-somebody';
    const { follow } = await serve([]);
    expect((await follow()).response.status).toBe(404);
  });

  test('ends when the server stops, so that the client goes to another', async () => {
    const { app, follow, following } = await serve([event(1, 'JobEnqueued')]);
    const stream = await follow();
    await stream.next();
    await stream.next();
    await app.close();
    expect(await stream.next()).toBeUndefined();
    expect(following()).toBe(0);
  });

  test('is refused to an account that has as many open as it may: 429, until one of them ends', async () => {
    const { follow, open } = await serve([event(1, 'JobEnqueued')], { perAccount: 2 });
    const [first, second] = await Promise.all([follow(), follow()]);
    const refused = await follow();
    expect(refused.response.status).toBe(429);
    expect(refused.response.headers.get('retry-after')).toBe('5');
    first.leave();
    await expect.poll(open).toBe(1);
    const again = await follow();
    expect(again.response.status).toBe(200);
    again.leave();
    second.leave();
  });

  test('of a client that does not read is cut off, and counted', async () => {
    const follow: FollowJob = async function* (_id, { onOverflow }) {
      yield { kind: 'events', events: [event(1, 'JobEnqueued')], caughtUp: true };
      onOverflow();
    };
    const { follow: open, dropped } = await serve([event(1, 'JobEnqueued')], { follow });
    const read = async () => {
      const stream = await open();
      while ((await stream.next()) !== undefined);
    };
    await expect(read()).rejects.toThrow();
    expect(dropped()).toBe(1);
  });
});

describe('a stream that nothing happens on', () => {
  const idle = async function* (): AsyncGenerator<FollowStep> {
    for (;;) yield { kind: 'idle' };
  };

  test('beats, and ends when the session behind it has ended', async () => {
    let asked = 0;
    const texts: string[] = [];
    const events = liveEvents({
      known: undefined,
      opened: async (event) => event,
      follow: idle,
      allowed: async () => ++asked < 3,
      onFailure: (error) => expect.unreachable(String(error)),
    });
    for await (const text of events) texts.push(text);
    expect(texts).toEqual(['retry: 2000\n\n', ': still here\n\n', ': still here\n\n']);
  });
});

test.each([
  ['text/event-stream', true],
  ['application/json, text/event-stream;q=0.5', true],
  ['TEXT/EVENT-STREAM; charset=utf-8', true],
  ['text/event-stream;q=0', false],
  ['*/*', false],
  [undefined, false],
])('Accept %j asks for a stream: %j', (accept, expected) => {
  expect(wantsStream(accept)).toBe(expected);
});
