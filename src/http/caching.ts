import type { FastifyReply, FastifyRequest } from 'fastify';

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

export function uncachedList(reply: FastifyReply): void {
  reply.header('cache-control', REVALIDATE);
}

/** RFC 9110, 13.1.2: weak comparison, a list, or `*`. */
export function matches(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  return header
    .split(',')
    .map((tag) => tag.trim())
    .some((tag) => tag === '*' || tag === etag || tag === `W/${etag}`);
}
