import type { FastifyReply } from 'fastify';
import type { LimitPolicy, LimitVerdict, TakeLimit } from '../access/limits.ts';
import { Problem } from './problems.ts';
import type { App } from './types.ts';

/** Applies each route's `limits`, after authentication and before the body is read. */
export function limitRequests(app: App, take: TakeLimit): void {
  app.addHook('onRequest', (request, reply, done) => {
    const { limits } = request.routeOptions.config;
    if (!limits) return done();
    const takes = limits.map(({ policy, by }) => ({
      policy,
      subject: by === 'account' && request.caller ? request.caller.accountId : request.ip,
    }));
    limit(take, reply, takes).then(() => done(), done);
  });
}

/**
 * Takes one from each policy, writes `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers,
 * revision 11), and throws a `Problem` at the first one that is used up. May be called again in a request,
 * for what only its body tells: the headers then name both.
 */
export async function limit(
  take: TakeLimit,
  reply: FastifyReply,
  takes: readonly { readonly policy: LimitPolicy; readonly subject: string }[],
): Promise<void> {
  for (const { policy, subject } of takes) {
    const verdict = await take(policy, subject);
    if (verdict === 'unknown') continue;
    append(reply, 'ratelimit-policy', describePolicy(policy));
    append(reply, 'ratelimit', `"${policy.name}";r=${verdict.remaining};t=${verdict.resetSeconds}`);
    if (!verdict.allowed) throw refused(verdict);
  }
}

function describePolicy(policy: LimitPolicy): string {
  if (policy.kind === 'window') return `"${policy.name}";q=${policy.limit};w=${policy.windowSeconds}`;
  const seconds = Math.ceil(policy.capacity / policy.refillPerSecond);
  return `"${policy.name}";q=${policy.capacity};w=${seconds}`;
}

function append(reply: FastifyReply, header: string, value: string): void {
  const before = reply.getHeader(header);
  reply.header(header, before === undefined ? value : `${before}, ${value}`);
}

function refused({ resetSeconds }: LimitVerdict): Problem {
  const seconds = Math.max(1, resetSeconds);
  return new Problem('rate_limited', `Come again in ${seconds} s.`, {
    headers: { 'retry-after': String(seconds) },
  });
}
