import { createHmac, timingSafeEqual } from 'node:crypto';

/**
 * Signs texts that go to a client and come back (cursors, tickets), or hashes what must not be stored as it
 * is. One key serves all: `purpose` keeps what was signed for one use from meaning anything in another.
 */
export type Hmac = (purpose: string, text: string) => Buffer;

/** @param key 32 bytes or more of randomness */
export function createHmacs(key: Buffer): Hmac {
  if (key.length < 32) throw new Error(`an HMAC key has at least 32 bytes, this one ${key.length}`);
  return (purpose, text) => createHmac('sha256', key).update(`${purpose}\n`).update(text).digest();
}

/** `<base64url of the text>.<base64url of its signature>` */
export function signText(hmac: Hmac, purpose: string, text: string): string {
  const signature = hmac(purpose, text).subarray(0, 18);
  return `${Buffer.from(text).toString('base64url')}.${signature.toString('base64url')}`;
}

/** The text, if we signed it for this purpose. */
export function readSigned(hmac: Hmac, purpose: string, signed: string): string | undefined {
  const [encoded, signature, ...rest] = signed.split('.');
  if (!encoded || !signature || rest.length > 0) return undefined;
  const text = Buffer.from(encoded, 'base64url').toString();
  // Compared as it was written: base64 has several spellings of the same bytes.
  const given = Buffer.from(signed);
  const expected = Buffer.from(signText(hmac, purpose, text));
  return given.length === expected.length && timingSafeEqual(given, expected) ? text : undefined;
}

/**
 * What the requests that an account's jobs send are signed with: 32 bytes, one secret for each account, and one for
 * the installation's own jobs (undefined). It follows from the key, so it is kept nowhere.
 */
export function webhookSecrets(hmac: Hmac): (owner: string | undefined) => Buffer {
  return (owner) => hmac('webhook secret', owner ?? '');
}
