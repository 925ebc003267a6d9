import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { verifyBlobUrl } from '../../src/blobs/signing.ts';
import { createStreams } from '../../src/http/draining.ts';
import { follow, lastEventId, type ReadModelWatch } from '../../src/http/streams.ts';
import type { ExportView } from '../../src/projections/exports.ts';
import { openStream } from '../support/sse.ts';
import { everyRoute, exportId } from './routes.ts';

const running: ExportView = {
  id: exportId,
  owner: 'acc-somebody',
  dataset: 'events',
  format: 'csv',
  status: 'running',
  progress: 25,
  attempts: 1,
  rows: 100,
  bytes: 2000,
  createdAt: '2026-11-20T21:47:00.000Z',
  startedAt: '2026-11-20T21:47:00.000Z',
  version: 4,
};
const file = { blob: 'exports/some/key.gz', fileName: 'événements.csv.gz', sha256: 'a'.repeat(64) };
const succeeded: ExportView = {
  ...running,
  status: 'succeeded',
  progress: 100,
  file,
  finishedAt: '2026-11-20T21:48:00.000Z',
  version: 6,
};
const at = Date.parse('2026-11-20T21:47:30.000Z');
const secret = Buffer.alloc(32, 9);

test('an export is shown as it stands, and nothing of its insides', async () => {
  let found: ExportView = { ...running, error: { name: 'E', message: 'm', stack: 'at /srv/secret' } };
  const { app, login } = everyRoute({ findExport: async () => found, now: () => at });
  const { authorization } = await login();
  const get = async (path = '') =>
    app.inject({ url: `/v1/exports/${exportId}${path}`, headers: { authorization } });
  const { owner: _owner, file: _file, ...shown } = running;
  expect((await get()).json()).toEqual({ ...shown, error: { name: 'E', message: 'm' }, etaSeconds: 90 });
  found = succeeded;
  const response = await get();
  expect(response.headers.etag).toBe('"6"');
  expect(response.body).not.toContain(file.blob);
});

describe('the download of an export', () => {
  test('is a signed URL of its file, the same for a quarter of an hour', async () => {
    let now = at;
    const { app, login } = everyRoute({
      findExport: async () => succeeded,
      blobSecret: secret,
      now: () => now,
    });
    const { authorization } = await login();
    const get = async () =>
      (await app.inject({ url: `/v1/exports/${exportId}/download`, headers: { authorization } })).json();
    const { url, expiresAt, ...rest } = await get();
    expect(rest).toEqual({ sha256: file.sha256, bytes: 2000 });
    expect(Date.parse(expiresAt) - now).toBeGreaterThanOrEqual(15 * 60_000);
    const { pathname, searchParams } = new URL(url, 'http://x');
    const params = { key: pathname.slice('/v1/blobs/'.length), ...Object.fromEntries(searchParams) };
    expect(verifyBlobUrl(params, secret, now)).toMatchObject({ status: 'ok', blob: { key: file.blob } });
    now += 60_000;
    expect((await get()).url).toBe(url);
  });

  test.each(['queued', 'running', 'retrying', 'failed', 'cancelled'] as const)(
    'is not there while it is %s: 409',
    async (status) => {
      const { app, login } = everyRoute({ findExport: async () => ({ ...running, status }) });
      const { authorization } = await login();
      const response = await app.inject({
        url: `/v1/exports/${exportId}/download`,
        headers: { authorization },
      });
      expect(response.statusCode).toBe(409);
      expect(response.json()).toMatchObject({ code: 'not_ready' });
    },
  );
});

/** A read model of one row that a test moves on. */
function readModel(first: ExportView | undefined) {
  let row = first;
  const waiting = new Set<() => void>();
  let open = 0;
  return {
    read: async () => row,
    moveTo(next: ExportView | undefined) {
      row = next;
      for (const wake of waiting) wake();
    },
    open: () => open,
    watch(): ReadModelWatch {
      open++;
      return {
        next: (timeoutMs, signal) =>
          new Promise((resolve) => {
            const end = () => {
              clearTimeout(timer);
              waiting.delete(end);
              resolve();
            };
            const timer = setTimeout(end, timeoutMs);
            waiting.add(end);
            if (signal.aborted) end();
            signal.addEventListener('abort', end, { once: true });
          }),
        close: () => {
          open--;
        },
      };
    },
  };
}

describe('the progress of an export, live', () => {
  async function serve(first: ExportView | undefined) {
    const model = readModel(first);
    const streams = createStreams();
    const { app, login, sessions } = everyRoute({
      findExport: model.read,
      watchReadModel: model.watch,
      streams,
      server: { streams },
    });
    const base = await app.listen({ port: 0, host: '127.0.0.1' });
    onTestFinished(() => app.close());
    const { authorization } = await login();
    const follow = (headers: Record<string, string> = {}, query = '') =>
      openStream(`${base}/v1/exports/${exportId}/progress${query}`, { authorization, ...headers });
    return { app, base, model, streams, follow, authorization, sessions };
  }

  test('comes event by event, ends with the last one, and says 204 to who comes back after it', async () => {
    const { model, follow } = await serve(running);
    const stream = await follow();
    expect(stream.response.status).toBe(200);
    expect(Object.fromEntries(stream.response.headers)).toMatchObject({
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache, no-transform',
      'x-accel-buffering': 'no',
    });
    expect(await stream.next()).toBe('retry: 2000');
    const first = await stream.next();
    expect(first).toMatch(/^id: 4\nevent: progress\ndata: \{.*"progress":25.*\}$/);
    model.moveTo({ ...running, progress: 60, version: 5 });
    expect(await stream.next()).toMatch(/^id: 5\nevent: progress\n.*"progress":60/);
    model.moveTo(succeeded);
    const last = await stream.next();
    expect(last).toMatch(/^id: 6\nevent: succeeded\n/);
    expect(last).not.toContain(file.blob);
    expect(await stream.next()).toBeUndefined();
    expect(model.open()).toBe(0);
    expect((await follow({ 'last-event-id': '6' })).response.status).toBe(204);
    expect((await follow({}, '?lastEventId=6')).response.status).toBe(204);
  });

  test('resumes after what the client has seen: nothing twice, the end not missed', async () => {
    const { model, follow } = await serve({ ...running, version: 5 });
    const stream = await follow({ 'last-event-id': '5' });
    expect(await stream.next()).toBe('retry: 2000');
    model.moveTo(succeeded);
    expect(await stream.next()).toMatch(/^id: 6\nevent: succeeded\n/);
    const late = await follow({ 'last-event-id': '3' });
    expect([await late.next(), await late.next(), await late.next()]).toEqual([
      'retry: 2000',
      expect.stringMatching(/^id: 6\nevent: succeeded\n/),
      undefined,
    ]);
  });

  test.each(['nonsense', '999', '-1', '4; x'])(
    'where the id %j is none of ours, it begins anew and says so',
    async (id) => {
      const { follow } = await serve(running);
      const stream = await follow({ 'last-event-id': id });
      expect([await stream.next(), await stream.next(), await stream.next()]).toEqual([
        'retry: 2000',
        'event: resync\ndata: {}',
        expect.stringMatching(/^id: 4\nevent: progress\n/),
      ]);
      stream.leave();
    },
  );

  test('is let go of when the client leaves', async () => {
    const { follow, model, streams } = await serve(running);
    const stream = await follow();
    await stream.next();
    expect(streams.count()).toBe(1);
    stream.leave();
    await expect.poll(() => [streams.count(), model.open()]).toEqual([0, 0]);
  });

  test('ends when the server stops, so that the client goes to another', async () => {
    const { app, follow } = await serve(running);
    const stream = await follow();
    await stream.next();
    await stream.next();
    await app.close();
    expect(await stream.next()).toBeUndefined();
  });

  test('needs a ticket where there is no header, and is nobody else’s', async () => {
    const { app, base, authorization, follow } = await serve(succeeded);
    const path = `/v1/exports/${exportId}/progress`;
    const issued = await app.inject({
      method: 'POST',
      url: '/v1/stream-tickets',
      payload: { path },
      headers: { authorization },
    });
    expect(issued.json()).toMatchObject({ path, expiresIn: 60 });
    const ticket = encodeURIComponent(issued.json().ticket);
    expect((await fetch(`${base}${path}?ticket=${ticket}&lastEventId=6`)).status).toBe(204);
    expect((await fetch(`${base}${path}`)).status).toBe(401);
    expect((await follow({ authorization: 'Bearer x' })).response.status).toBe(401);
  });

  test('tells HEAD what it would be, and opens nothing', async () => {
    const { base, streams, authorization } = await serve(running);
    const open = vi.spyOn(streams, 'open');
    const url = `${base}/v1/exports/${exportId}/progress`;
    const response = await fetch(url, { method: 'HEAD', headers: { authorization } });
    expect([response.status, response.headers.get('content-type')]).toEqual([
      200,
      'text/event-stream; charset=utf-8',
    ]);
    expect(open).not.toHaveBeenCalled();
  });

  test('of an export that is not there is a 404, and no stream', async () => {
    const { follow } = await serve(undefined);
    expect((await follow()).response.status).toBe(404);
  });
});

describe('a stream that nothing happens on', () => {
  const options = (allowed: () => Promise<boolean>, signal: AbortSignal) => ({
    known: undefined,
    read: async () => running,
    show: () => ({ event: 'progress', data: {}, final: false }),
    watch: readModel(running).watch,
    signal,
    allowed,
    onFailure: (error: unknown) => expect.unreachable(String(error)),
    heartbeatMs: 20,
  });

  test('beats, so that no proxy takes it for dead', async () => {
    const controller = new AbortController();
    const texts: string[] = [];
    for await (const text of follow(options(async () => true, controller.signal))) {
      texts.push(text);
      if (texts.length === 4) controller.abort();
    }
    expect(texts.slice(2)).toEqual([': still here\n\n', ': still here\n\n']);
  });

  test('ends when the session behind it has ended', async () => {
    const texts = [];
    for await (const text of follow(options(async () => false, new AbortController().signal)))
      texts.push(text);
    expect(texts).toHaveLength(2);
  });
});

test.each([
  ['7', undefined, 7],
  [undefined, '7', 7],
  ['7', '8', 7],
  [undefined, undefined, undefined],
  ['', undefined, undefined],
  ['a\nb', undefined, 'unknown'],
] as const)('the last event id of %j and %j is %j', (header, parameter, expected) => {
  expect(lastEventId(header, parameter)).toBe(expected);
});
