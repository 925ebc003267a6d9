import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import type { Hmac } from './signing.ts';

/**
 * How often something may be done. A fixed window is a quota ("20 in an hour"); a token bucket is a pace
 * with room for bursts. `name` is stored in keys and told to clients: an identifier for life.
 */
export type LimitPolicy =
  | { readonly kind: 'window'; readonly name: string; readonly limit: number; readonly windowSeconds: number }
  | {
      readonly kind: 'bucket';
      readonly name: string;
      readonly capacity: number;
      readonly refillPerSecond: number;
    };

export type LimitVerdict = {
  readonly policy: LimitPolicy;
  readonly allowed: boolean;
  readonly remaining: number;
  /** Until the quota is whole again, or (refused by a bucket) until the next take is allowed. */
  readonly resetSeconds: number;
};

/**
 * Takes `count` (default 1) of what `subject` (an address, an account: never stored as it is) may do; refused
 * where nothing is left. A negative count gives back what turned out not to be meant by the limit.
 */
export type TakeLimit = (
  policy: LimitPolicy,
  subject: string,
  count?: number,
) => Promise<LimitVerdict | 'unknown'>;

/** The part of a Redis client that is needed, so that any client will do. */
export type ScriptClient = {
  evalsha(sha: string, keys: number, ...args: (string | number)[]): Promise<unknown>;
  eval(script: string, keys: number, ...args: (string | number)[]): Promise<unknown>;
};

const scripts = {
  window: readScript('fixed_window.lua'),
  bucket: readScript('token_bucket.lua'),
} as const;

/**
 * Limits that all processes share, in Redis and by its clock.
 *
 * Answers 'unknown' while Redis is away, and tells `onOutage`: what is limited also commits to Redis, so
 * nothing gets through that way anyway, and refusing for the limiter's sake would only hide why (429 for what
 * is a 503). What costs CPU here (bcrypt) is bounded by a gate of its own.
 */
export function createLimits(options: {
  readonly client: ScriptClient;
  /** Of every key, as of all others: `mill`. */
  readonly prefix: string;
  readonly hmac: Hmac;
  readonly onOutage: (error: unknown) => void;
}): TakeLimit {
  const { client, prefix, hmac, onOutage } = options;
  return async (policy, subject, count = 1) => {
    const who = hmac('limit', subject).subarray(0, 16).toString('base64url');
    const key = `${prefix}:limit:${policy.name}:${who}`;
    const args =
      policy.kind === 'window'
        ? [policy.limit, policy.windowSeconds * 1000, count]
        : [policy.capacity, policy.refillPerSecond, count];
    try {
      const [allowed, remaining, resetMs] = numbers(await run(client, scripts[policy.kind], key, args));
      return { policy, allowed: allowed === 1, remaining, resetSeconds: Math.ceil(resetMs / 1000) };
    } catch (error) {
      onOutage(error);
      return 'unknown';
    }
  };
}

type Script = { readonly text: string; readonly sha: string };

function readScript(file: string): Script {
  const text = readFileSync(new URL(file, import.meta.url), 'utf8');
  return { text, sha: createHash('sha1').update(text).digest('hex') };
}

/** A take is no event: sent anew after NOSCRIPT, it can at worst overtake its neighbour. */
async function run(client: ScriptClient, script: Script, key: string, args: number[]): Promise<unknown> {
  try {
    return await client.evalsha(script.sha, 1, key, ...args);
  } catch (error) {
    if (!(error instanceof Error) || !error.message.startsWith('NOSCRIPT')) throw error;
    return client.eval(script.text, 1, key, ...args);
  }
}

function numbers(reply: unknown): [number, number, number] {
  if (!Array.isArray(reply)) throw new Error('a limit script answered no list');
  const [first, second, third] = reply.map(Number);
  if (first === undefined || second === undefined || third === undefined) {
    throw new Error('a limit script answered too little');
  }
  return [first, second, third];
}
