import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { App } from './types.ts';

/** Private to the caller, and asked about again each time: cheap by its ETag, never stale. */
const REVALIDATE = 'private, no-cache';

/**
 * Writes `ETag` (the stream's version) and `Cache-Control`. True: the client has this version, so the route
 * answers 304 without a body.
 */
export function notModified(request: FastifyRequest, reply: FastifyReply, version: number | string): boolean {
  const etag = `"${version}"`;
  reply.header('etag', etag).header('cache-control', REVALIDATE);
  return matches(request.headers['if-none-match'], etag);
}

/** A list has no version: `revalidateLists` gives it an ETag by what is in it. */
export function revalidatedList(reply: FastifyReply): void {
  reply.header('cache-control', REVALIDATE);
}

/** Gives what is asked about again each time, and has no version, the ETag of its bytes; 304 to who has them. */
export function revalidateLists(app: App): void {
  app.addHook('onSend', (request, reply, payload: unknown, done) => {
    const isList = reply.getHeader('cache-control') === REVALIDATE && !reply.hasHeader('etag');
    if (!isList || typeof payload !== 'string') return done(null, payload);
    const etag = `"${createHash('sha1').update(payload).digest('base64url')}"`;
    reply.header('etag', etag);
    if (!matches(request.headers['if-none-match'], etag)) return done(null, payload);
    reply.code(304).removeHeader('content-type').removeHeader('content-length');
    // Fastify's own hook for HEAD asks its payload what it is.
    done(null, request.method === 'HEAD' ? '' : null);
  });
}

/** RFC 9110, 13.1.2: weak comparison, a list, or `*`. */
export function matches(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  return header
    .split(',')
    .map((tag) => tag.trim())
    .some((tag) => tag === '*' || tag === etag || tag === `W/${etag}`);
}
