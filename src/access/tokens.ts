import { createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import type fastifyJwt from '@fastify/jwt';
import type { FastifyRequest } from 'fastify';
import { Role } from '../domain/accounts.ts';
import { type AccountId, parseStreamId, type SessionId } from '../domain/ids.ts';

/** How long an access token is good for, in seconds. Its session is checked besides, on each request. */
export const ACCESS_TOKEN_SECONDS = 900;

/** RFC 9068: keeps any other token that these keys may sign one day from passing as an access token. */
const TYPE = 'at+jwt';
const REQUIRED = ['sub', 'sid', 'role', 'iss', 'aud', 'iat', 'exp'];

export type TokenKey = { readonly kid: string; readonly privatePem: string; readonly publicPem: string };

export type TokenSettings = {
  /** The first one signs; the others still verify, so that keys can be rotated. At least one. */
  readonly keys: readonly [TokenKey, ...TokenKey[]];
  readonly issuer: string;
  readonly audience: string;
  /** Seconds; default `ACCESS_TOKEN_SECONDS`. */
  readonly lifetimeSeconds?: number;
};

/** Who sends a request, as a verified token says. */
export type Caller = {
  readonly accountId: AccountId;
  readonly sessionId: SessionId;
  readonly role: Role;
};
export type VerifiedToken = Caller & {
  /** Milliseconds since 1970, whole seconds. */
  readonly issuedAt: number;
  /** Milliseconds since 1970. */
  readonly expiresAt: number;
};

/** The token names a key that is not (or no longer) one of ours. */
export class UnknownTokenKeyError extends Error {
  override readonly name = 'UnknownTokenKeyError';
}

/**
 * Makes the keys of `TOKEN_KEYS` ready for use, in their order: the first one signs.
 * Throws an `Error` that says which one is wrong, without the key itself.
 * @param entries each a name and an Ed25519 key as PKCS #8 DER
 */
export function readTokenKeys(
  entries: readonly { readonly kid: string; readonly der: Buffer }[],
): TokenSettings['keys'] {
  const [first, ...more] = entries.map(readTokenKey);
  if (!first) throw new Error('TOKEN_KEYS holds no key');
  const kids = [first, ...more].map((key) => key.kid);
  const twice = kids.find((kid, index) => kids.indexOf(kid) !== index);
  if (twice !== undefined) throw new Error(`TOKEN_KEYS names ${twice} twice`);
  return [first, ...more];
}

function readTokenKey({ kid, der }: { readonly kid: string; readonly der: Buffer }): TokenKey {
  let key: ReturnType<typeof createPrivateKey>;
  try {
    key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  } catch {
    throw new Error(`TOKEN_KEYS: ${kid} is not a PKCS #8 key`);
  }
  if (key.asymmetricKeyType !== 'ed25519') throw new Error(`TOKEN_KEYS: ${kid} is not an Ed25519 key`);
  return {
    kid,
    privatePem: key.export({ format: 'pem', type: 'pkcs8' }).toString(),
    publicPem: createPublicKey(key).export({ format: 'pem', type: 'spki' }).toString(),
  };
}

/** A new Ed25519 key as PKCS #8 DER; its base64 behind `<kid>:` is an entry of `TOKEN_KEYS`. */
export function generateTokenKey(): Buffer {
  return generateKeyPairSync('ed25519').privateKey.export({ format: 'der', type: 'pkcs8' });
}

/** The public keys as a JWK Set (RFC 7517, 8037). */
export function publicKeySet(keys: readonly TokenKey[]) {
  return {
    keys: keys.map(({ kid, publicPem }) => {
      const { kty = 'OKP', crv = 'Ed25519', x = '' } = createPublicKey(publicPem).export({ format: 'jwk' });
      return { kty, crv, x, kid, use: 'sig', alg: 'EdDSA' };
    }),
  };
}

/**
 * Options for @fastify/jwt that close what it leaves open: without `algorithms`, `requiredClaims` and
 * `checkTyp` it accepts tokens without `exp`, `iss` or `aud` and of any `typ`. Its own cache stays off: it
 * also keeps failures, so a flood of garbage would push honest tokens out (see `createVerifiedTokens`).
 */
export function jwtOptions(settings: TokenSettings): fastifyJwt.FastifyJWTOptions {
  const { keys, issuer, audience, lifetimeSeconds = ACCESS_TOKEN_SECONDS } = settings;
  const publicPems = new Map(keys.map((key) => [key.kid, key.publicPem]));
  return {
    secret: {
      private: keys[0].privatePem,
      public: async (_request: FastifyRequest, token: fastifyJwt.TokenOrHeader) => {
        const { kid } = 'header' in token ? token.header : token;
        const pem = typeof kid === 'string' ? publicPems.get(kid) : undefined;
        if (pem === undefined) throw new UnknownTokenKeyError('the token was not signed by a key of ours');
        return pem;
      },
    },
    decode: { complete: true },
    sign: {
      algorithm: 'EdDSA',
      kid: keys[0].kid,
      header: { alg: 'EdDSA', typ: TYPE },
      iss: issuer,
      aud: audience,
      expiresIn: lifetimeSeconds,
    },
    verify: {
      algorithms: ['EdDSA'],
      allowedIss: issuer,
      allowedAud: audience,
      requiredClaims: REQUIRED,
      checkTyp: TYPE,
      cache: false,
    },
  };
}

/** What an access token says besides who issued it and when. */
export function claimsOf(caller: Caller) {
  return { sub: caller.accountId, sid: caller.sessionId, role: caller.role };
}

/** Reads the payload of a token whose signature was verified. Undefined: not what we sign. */
export function readClaims(payload: unknown): VerifiedToken | undefined {
  if (typeof payload !== 'object' || payload === null) return undefined;
  const { sub, sid, role, iat, exp } = payload as Record<string, unknown>;
  if (typeof sub !== 'string' || typeof sid !== 'string') return undefined;
  if (typeof iat !== 'number' || typeof exp !== 'number') return undefined;
  const accountId: AccountId | undefined = parseStreamId(sub, 'acc');
  const sessionId: SessionId | undefined = parseStreamId(sid, 'ses');
  const known = Role.enum.find((name) => name === role);
  if (!accountId || !sessionId || !known) return undefined;
  return { accountId, sessionId, role: known, issuedAt: iat * 1000, expiresAt: exp * 1000 };
}

/**
 * Remembers tokens whose signature was verified: an Ed25519 check costs more than all else that a request
 * does. By the whole token, so that no other one can be taken for it; at most `limit`, least recently used
 * out first; expiry checked on every hit; failures never enter. It knows no keys: make a new one with the
 * keys, as the server does.
 */
export function createVerifiedTokens(limit = 10_000) {
  const tokens = new Map<string, VerifiedToken>();
  return {
    get(token: string, now: number): VerifiedToken | undefined {
      const verified = tokens.get(token);
      if (!verified) return undefined;
      tokens.delete(token);
      if (verified.expiresAt <= now) return undefined;
      tokens.set(token, verified);
      return verified;
    },
    add(token: string, verified: VerifiedToken): void {
      tokens.set(token, verified);
      if (tokens.size > limit) {
        const [oldest] = tokens.keys();
        if (oldest !== undefined) tokens.delete(oldest);
      }
    },
    size: () => tokens.size,
  };
}
export type VerifiedTokens = ReturnType<typeof createVerifiedTokens>;
