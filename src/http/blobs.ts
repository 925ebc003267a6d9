import type { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Type } from 'typebox';
import { BlobNotFound, type BlobStore, type ByteRange } from '../blobs/blobs.ts';
import { BLOB_PATH, type SignedBlob, verifyBlobUrl } from '../blobs/signing.ts';
import { matches } from './caching.ts';
import { Problem } from './problems.ts';
import { NotModified } from './schemas.ts';
import type { Routes } from './types.ts';

const text = Type.Optional(Type.String({ maxLength: 500 }));
/** Checked by their signature. What else a CDN adds is let be. */
const Signature = Type.Object({ name: text, type: text, expires: text, sha256: text, sig: text });

const Bytes = (description: string) =>
  Type.Unsafe<Readable>({ type: 'string', format: 'binary', description });

/** Serves signed URLs: whoever has one may read that file, whole or in part, until it expires. */
export function blobRoutes(deps: {
  readonly blobs: Pick<BlobStore, 'read' | 'stat'>;
  readonly secret: Buffer;
  readonly now?: () => number;
}): Routes {
  const { blobs, secret, now = () => Date.now() } = deps;

  async function prepare(request: Pick<FastifyRequest, 'params' | 'query'>, reply: FastifyReply) {
    const blob = signedBlob(request, secret, now());
    const found = await blobs.stat(blob.key);
    if (!found) throw new Problem('not_found', 'The file is not kept any more.');
    describe(reply, blob, now());
    return { blob, bytes: found.bytes, etag: etagOf(blob) };
  }

  return (app) => {
    const schema = {
      tags: ['Exports'],
      querystring: Signature,
    };
    app.head(
      `${BLOB_PATH}*`,
      {
        schema: {
          ...schema,
          summary: 'What a signed URL leads to',
          operationId: 'headFile',
          response: { 200: Type.Null({ description: 'Its headers.' }), 304: NotModified },
        },
        config: { auth: 'signed' },
      },
      async (request, reply) => {
        const { bytes, etag } = await prepare(request, reply);
        if (etag && matches(request.headers['if-none-match'], etag)) return reply.code(304).send(undefined);
        return reply.header('content-length', bytes).send(null);
      },
    );
    app.get(
      `${BLOB_PATH}*`,
      {
        exposeHeadRoute: false,
        schema: {
          ...schema,
          summary: 'Download by a signed URL',
          operationId: 'downloadFile',
          produces: ['application/gzip', 'application/octet-stream'],
          response: { 200: Bytes('The file.'), 206: Bytes('The part that was asked for.'), 304: NotModified },
        },
        config: { auth: 'signed' },
      },
      async (request, reply) => {
        const { blob, bytes, etag } = await prepare(request, reply);
        if (etag && matches(request.headers['if-none-match'], etag)) return reply.code(304).send(undefined);
        const range = rangeOf(request, bytes, etag);
        const stream = await blobs.read(blob.key, range).catch(gone);
        if (!range) return reply.header('content-length', bytes).send(stream);
        const { start, end } = range;
        return reply
          .code(206)
          .header('content-range', `bytes ${start}-${end}/${bytes}`)
          .header('content-length', end - start + 1)
          .send(stream);
      },
    );
  };
}

function signedBlob(
  { params, query }: Pick<FastifyRequest, 'params' | 'query'>,
  secret: Buffer,
  now: number,
): SignedBlob {
  const { '*': key }: { '*'?: unknown } = typeof params === 'object' && params !== null ? params : {};
  const signature = typeof query === 'object' && query !== null ? query : {};
  const verified = verifyBlobUrl({ ...signature, key }, secret, now);
  if (verified.status === 'ok') return verified.blob;
  throw new Problem(
    'invalid_link',
    verified.status === 'expired' ? 'The link has expired.' : 'The link is not one of ours.',
  );
}

function etagOf({ sha256 }: SignedBlob): string | undefined {
  return sha256 === undefined ? undefined : `"${sha256}"`;
}

/** Headers that hold for the file, whichever part of it is sent. */
function describe(reply: FastifyReply, blob: SignedBlob, now: number): void {
  const seconds = Math.max(0, Math.floor((blob.expiresAt - now) / 1000));
  const etag = etagOf(blob);
  if (etag) reply.header('etag', etag);
  reply
    .type(blob.mediaType)
    .header('accept-ranges', 'bytes')
    .header('cache-control', `public, max-age=${seconds}, immutable`)
    .header('content-disposition', disposition(blob.name))
    // Whatever is in the file, no page of ours is to be made of it.
    .header('content-security-policy', "default-src 'none'; sandbox");
}

/** RFC 6266: a name in ASCII for old clients, the real one beside it. */
export function disposition(name: string): string {
  const ascii = name.replaceAll(/[^\x20-\x7e]|["\\%]/g, '_');
  const encoded = encodeURIComponent(name).replaceAll(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`);
  return `attachment; filename="${ascii}"; filename*=UTF-8''${encoded}`;
}

/**
 * RFC 9110, 14: one range of bytes. Several, or what is malformed, is ignored, and so is a range of another
 * version of the file (`If-Range`): then all of it is sent.
 */
function rangeOf(
  request: FastifyRequest,
  bytes: number,
  etag: string | undefined,
): Required<ByteRangeOf> | undefined {
  const { range } = request.headers;
  const ifRange = request.headers['if-range'];
  if (range === undefined || (ifRange !== undefined && ifRange !== etag)) return undefined;
  const [, first = '', last = ''] = /^bytes=(\d{0,15})-(\d{0,15})$/.exec(range) ?? [];
  if (first === '' && last === '') return undefined;
  const start = first === '' ? Math.max(0, bytes - Number(last)) : Number(first);
  const end = first === '' || last === '' ? bytes - 1 : Math.min(Number(last), bytes - 1);
  if (first !== '' && last !== '' && Number(last) < start) return undefined;
  if (start >= bytes || (first === '' && Number(last) === 0)) {
    throw new Problem('range_not_satisfiable', `The file has ${bytes} bytes.`, {
      headers: { 'content-range': `bytes */${bytes}` },
    });
  }
  return { start, end };
}
type ByteRangeOf = { start: ByteRange['start']; end: number };

function gone(error: unknown): never {
  if (error instanceof BlobNotFound) throw new Problem('not_found', 'The file is not kept any more.');
  throw error;
}
