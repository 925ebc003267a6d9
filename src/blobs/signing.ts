import { createHmac, timingSafeEqual } from 'node:crypto';
import { checkKey } from './blobs.ts';

/** What a signed URL lets its bearer fetch, and how the answer is to be labelled. */
export type SignedBlob = {
  readonly key: string;
  /** The file name offered to who saves it; no control characters, no lone surrogates. */
  readonly name: string;
  /** As `application/gzip`. */
  readonly mediaType: string;
  /** Milliseconds since 1970; good before this instant. */
  readonly expiresAt: number;
  /** Of the content, 64 hex digits, where it is known: it identifies the file to caches and resumed downloads. */
  readonly sha256?: string;
};

export type Verified =
  | { readonly status: 'ok'; readonly blob: SignedBlob }
  | { readonly status: 'expired' }
  /** Forged, altered, incomplete, or signed with another secret. */
  | { readonly status: 'invalid' };

/** The route that serves signed URLs: what follows is the key, slashes included. */
export const BLOB_PATH = '/v1/blobs/';

/** Names what is signed, so that no signature made for something else with the same secret fits. */
const PURPOSE = 'millrace blob 1';
const MIN_SECRET_BYTES = 32;
const SHA256 = /^[0-9a-f]{64}$/;
const MEDIA_TYPE = /^[\w.+-]+\/[\w.+-]+(?:; ?[\w-]+=[\w.-]+)*$/;
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what it refuses, as they split headers.
const CONTROL = /[\u0000-\u001f\u007f]/;

/**
 * A path with query, `/v1/blobs/<key>?name=…&type=…&expires=…&sig=…`, which needs no other credential: whoever
 * has it may read that blob until it expires. HMAC-SHA-256 over all of it.
 *
 * @throws InvalidBlobKey; TypeError for a name, media type, time or secret (under 32 bytes) that won't do
 */
export function signBlobUrl(blob: SignedBlob, secret: Buffer): string {
  checkKey(blob.key);
  if (CONTROL.test(blob.name) || !blob.name.isWellFormed()) {
    throw new TypeError('a file name can hold no control characters and no lone surrogates');
  }
  if (!MEDIA_TYPE.test(blob.mediaType)) throw new TypeError('not a media type');
  if (!Number.isSafeInteger(blob.expiresAt)) throw new TypeError('expiresAt is in whole milliseconds');
  if (blob.sha256 !== undefined && !SHA256.test(blob.sha256)) throw new TypeError('not a SHA-256');
  const query = new URLSearchParams({
    name: blob.name,
    type: blob.mediaType,
    expires: String(blob.expiresAt),
    ...(blob.sha256 === undefined ? {} : { sha256: blob.sha256 }),
    sig: signatureOf(blob, secret),
  });
  return `${BLOB_PATH}${blob.key}?${query}`;
}

/**
 * Checks what came with a request: the key of the path and the query's `name`, `type`, `expires`, `sha256` and `sig`,
 * all as they were decoded, of any type. Compares in constant time, and tells "expired" only of what was once good.
 *
 * @param now milliseconds since 1970
 */
export function verifyBlobUrl(
  params: Readonly<Record<string, unknown>>,
  secret: Buffer,
  now: number,
): Verified {
  const { key, name, type: mediaType, expires, sha256, sig } = params;
  if (typeof key !== 'string' || typeof name !== 'string' || typeof mediaType !== 'string') return invalid;
  if (typeof expires !== 'string' || !/^[1-9]\d{0,14}$/.test(expires) || typeof sig !== 'string')
    return invalid;
  if (sha256 !== undefined && (typeof sha256 !== 'string' || !SHA256.test(sha256))) return invalid;
  const blob: SignedBlob = {
    key,
    name,
    mediaType,
    expiresAt: Number(expires),
    ...(sha256 === undefined ? {} : { sha256 }),
  };
  const given = Buffer.from(sig);
  const right = Buffer.from(signatureOf(blob, secret));
  if (given.length !== right.length || !timingSafeEqual(given, right)) return invalid;
  return now < blob.expiresAt ? { status: 'ok', blob } : { status: 'expired' };
}

const invalid: Verified = { status: 'invalid' };

function signatureOf({ key, name, mediaType, expiresAt, sha256 }: SignedBlob, secret: Buffer): string {
  if (secret.length < MIN_SECRET_BYTES) throw new TypeError(`a secret needs ${MIN_SECRET_BYTES} bytes`);
  // JSON keeps the parts apart: joined by hand, a name could lend characters to a media type.
  const signed = JSON.stringify([PURPOSE, key, name, mediaType, expiresAt, sha256 ?? null]);
  return createHmac('sha256', secret).update(signed).digest('base64url');
}
