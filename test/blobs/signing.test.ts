import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { BLOB_PATH, type SignedBlob, signBlobUrl, verifyBlobUrl } from '../../src/blobs/signing.ts';

const secret = Buffer.alloc(32, 7);
const expiresAt = 1_800_000_000_000;
const blob: SignedBlob = {
  key: 'exports/01ab.gz',
  name: 'Müller & Söhne "events".ndjson.gz',
  mediaType: 'application/gzip',
  expiresAt,
};

/** What a server gets: the key behind the route's path, and the query as it was decoded. */
function received(path: string): Record<string, string> {
  const url = new URL(path, 'http://localhost');
  return { ...Object.fromEntries(url.searchParams), key: url.pathname.slice(BLOB_PATH.length) };
}

describe('a signed URL', () => {
  it('is good until it expires', () => {
    const params = received(signBlobUrl(blob, secret));
    expect(verifyBlobUrl(params, secret, expiresAt - 1)).toEqual({ status: 'ok', blob });
    expect(verifyBlobUrl(params, secret, expiresAt)).toEqual({ status: 'expired' });
  });

  it.each([
    ['another key', { key: 'exports/01ac.gz' }],
    ['another name', { name: 'x.html' }],
    ['another media type', { type: 'text/html' }],
    ['a later end', { expires: String(expiresAt + 1) }],
    ['an end written otherwise', { expires: `0${expiresAt}` }],
    ['an end that is no number', { expires: 'never' }],
    ['no signature', { sig: undefined }],
    ['an empty signature', { sig: '' }],
    ['another signature', { sig: randomBytes(32).toString('base64url') }],
    ['a list for a signature', { sig: ['a', 'b'] }],
    ['an object for a key', { key: { length: 3 } }],
  ])('is invalid with %s, also when it has expired', (_what, change) => {
    const params = { ...received(signBlobUrl(blob, secret)), ...change };
    expect(verifyBlobUrl(params, secret, expiresAt - 1)).toEqual({ status: 'invalid' });
    expect(verifyBlobUrl(params, secret, expiresAt + 1)).toEqual({ status: 'invalid' });
  });

  it('is invalid with any character of its signature changed', () => {
    const params = received(signBlobUrl(blob, secret));
    const sig = params.sig ?? '';
    for (let i = 0; i < sig.length; i++) {
      const changed = `${sig.slice(0, i)}${sig[i] === 'A' ? 'B' : 'A'}${sig.slice(i + 1)}`;
      expect(verifyBlobUrl({ ...params, sig: changed }, secret, 0)).toEqual({ status: 'invalid' });
    }
  });

  it('is invalid under another secret', () => {
    const params = received(signBlobUrl(blob, secret));
    expect(verifyBlobUrl(params, Buffer.alloc(32, 8), 0)).toEqual({ status: 'invalid' });
  });

  it('cannot lend characters of one part to the next', () => {
    const params = received(signBlobUrl({ ...blob, name: 'a', mediaType: 'b/c' }, secret));
    expect(verifyBlobUrl({ ...params, name: 'a","b', type: '/c' }, secret, 0)).toEqual({ status: 'invalid' });
  });

  it.each([
    ['a key that climbs', { key: '../secret' }, 'InvalidBlobKey'],
    ['a name that would split a header', { name: 'a\r\nset-cookie: x' }, 'TypeError'],
    ['a name with a lone surrogate', { name: 'a\ud800' }, 'TypeError'],
    ['something that is no media type', { mediaType: 'text/html\r\nx: y' }, 'TypeError'],
    ['an end that is no time', { expiresAt: Number.NaN }, 'TypeError'],
  ])('is not made for %s', (_what, change, name) => {
    expect(() => signBlobUrl({ ...blob, ...change }, secret)).toThrow(expect.objectContaining({ name }));
  });

  it('is not made with a short secret', () => {
    expect(() => signBlobUrl(blob, Buffer.alloc(16))).toThrow(TypeError);
  });
});
