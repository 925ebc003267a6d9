import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createDiskStore } from '../../src/blobs/disk.ts';
import { type SignedBlob, signBlobUrl } from '../../src/blobs/signing.ts';
import { disposition } from '../../src/http/blobs.ts';
import type { App } from '../../src/http/types.ts';
import { everyRoute } from './routes.ts';

const secret = Buffer.alloc(32, 9);
const content = randomBytes(300_000);
const sha256 = createHash('sha256').update(content).digest('hex');
const blob: SignedBlob = {
  key: 'exports/a.gz',
  name: 'événements "x".gz',
  mediaType: 'application/gzip',
  expiresAt: Date.now() + 600_000,
  sha256,
};
const url = signBlobUrl(blob, secret);
let folder: string;
let app: App;
const get = (headers: Record<string, string> = {}, path = url, method: 'GET' | 'HEAD' = 'GET') =>
  app.inject({ method, url: path, headers });

beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'blobs-'));
  const blobs = createDiskStore(folder);
  await blobs.write(blob.key, [content]);
  ({ app } = everyRoute({ blobs, secret }));
});
afterAll(() => rm(folder, { recursive: true }));

describe('a signed URL', () => {
  test('gives the whole file to whoever has it, and to caches on the way', async () => {
    const response = await get();
    expect(response.statusCode).toBe(200);
    expect(response.rawPayload.equals(content)).toBe(true);
    expect(response.headers).toMatchObject({
      'content-type': 'application/gzip',
      'content-length': '300000',
      'accept-ranges': 'bytes',
      etag: `"${sha256}"`,
      'cache-control': expect.stringMatching(/^public, max-age=5\d\d, immutable$/),
      'content-disposition': `attachment; filename="_v_nements _x_.gz"; filename*=UTF-8''%C3%A9v%C3%A9nements%20%22x%22.gz`,
      'x-content-type-options': 'nosniff',
    });
    expect(response.headers['content-encoding']).toBeUndefined();
  });

  test('tells HEAD the same, without the file', async () => {
    const response = await get({}, url, 'HEAD');
    expect(response.statusCode).toBe(200);
    expect(response.headers).toMatchObject({ 'content-length': '300000', etag: `"${sha256}"` });
    expect(response.rawPayload).toHaveLength(0);
    expect((await get({ 'if-none-match': `"${sha256}"` }, url, 'HEAD')).statusCode).toBe(304);
  });

  test.each([
    ['bytes=0-9', 0, 9],
    ['bytes=299990-', 299_990, 299_999],
    ['bytes=-5', 299_995, 299_999],
    ['bytes=10-999999999', 10, 299_999],
    ['bytes=-999999999', 0, 299_999],
  ])('gives the part %s', async (range, start, end) => {
    const response = await get({ range });
    expect(response.statusCode).toBe(206);
    expect(response.headers['content-range']).toBe(`bytes ${start}-${end}/300000`);
    expect(response.headers['content-length']).toBe(String(end - start + 1));
    expect(response.rawPayload.equals(content.subarray(start, end + 1))).toBe(true);
  });

  test.each(['bytes=300000-', 'bytes=-0', 'bytes=999999-9999999'])(
    'has nothing at %s: 416, with its size',
    async (range) => {
      const response = await get({ range });
      expect(response.statusCode).toBe(416);
      expect(response.headers['content-range']).toBe('bytes */300000');
      expect(response.json()).toMatchObject({ code: 'range_not_satisfiable' });
      expect(response.headers['cache-control']).toBe('no-store');
    },
  );

  test.each(['bytes=0-1,5-6', 'bytes=5-1', 'bytes=x', 'lines=1-2', 'bytes=-'])(
    'gives all for %s, which it does not do',
    async (range) => {
      const response = await get({ range });
      expect(response.statusCode).toBe(200);
      expect(response.rawPayload).toHaveLength(300_000);
    },
  );

  test('resumes a download of the same file only', async () => {
    const range = 'bytes=5-9';
    expect((await get({ range, 'if-range': `"${sha256}"` })).statusCode).toBe(206);
    expect((await get({ range, 'if-range': '"other"' })).statusCode).toBe(200);
    expect((await get({ 'if-none-match': `"${sha256}"` })).statusCode).toBe(304);
  });

  test.each([
    ['another file', url.replace('a.gz', 'b.gz')],
    ['another name', url.replace('name=', 'name=x')],
    ['another type', url.replace('type=application', 'type=text')],
    ['a later end', url.replace(/expires=\d/, 'expires=9')],
    ['another content', url.replace(/sha256=./, sha256.startsWith('0') ? 'sha256=1' : 'sha256=0')],
    ['no content', url.replace(/&sha256=[^&]*/, '')],
    ['no signature', url.replace(/&sig=.*/, '')],
    ['nothing', '/v1/blobs/exports/a.gz'],
    ['a way out', '/v1/blobs/..%2f..%2fetc/passwd?sig=x'],
  ])('that was changed to mean %s is refused: 403', async (_name, changed) => {
    const response = await get({}, changed);
    expect(response.statusCode).toBe(403);
    expect(response.json()).toMatchObject({ code: 'invalid_link', detail: 'The link is not one of ours.' });
  });

  test('that has expired says so', async () => {
    const response = await get({}, signBlobUrl({ ...blob, expiresAt: Date.now() - 1 }, secret));
    expect(response.statusCode).toBe(403);
    expect(response.json()).toMatchObject({ detail: 'The link has expired.' });
  });

  test('of a file that is not kept any more is a 404', async () => {
    const gone = signBlobUrl({ ...blob, key: 'exports/gone.gz' }, secret);
    expect((await get({}, gone)).statusCode).toBe(404);
    expect((await get({}, gone, 'HEAD')).statusCode).toBe(404);
  });
});

test('a file name can not break out of its header', () => {
  expect(disposition(`a"; filename="b'(*)`)).toBe(
    `attachment; filename="a_; filename=_b'(*)"; filename*=UTF-8''a%22%3B%20filename%3D%22b%27%28%2a%29`,
  );
});
