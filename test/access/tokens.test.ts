import { createPrivateKey, generateKeyPairSync } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import {
  createVerifiedTokens,
  generateTokenKey,
  publicKeySet,
  readTokenKeys,
  type VerifiedToken,
} from '../../src/access/tokens.ts';
import { type AccountId, type SessionId, streamId } from '../../src/domain/ids.ts';

describe('the keys of tokens', () => {
  test('a key that is no Ed25519 key is refused, and is not in the message', () => {
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey;
    const der = rsa.export({ format: 'der', type: 'pkcs8' });
    expect(() => readTokenKeys([{ kid: 'a', der }])).toThrow('TOKEN_KEYS: a is not an Ed25519 key');
    expect(() => readTokenKeys([{ kid: 'a', der: Buffer.from('junk') }])).toThrow('not a PKCS #8 key');
  });

  test('no key, or the same name twice, is refused', () => {
    const twice = [
      { kid: 'a', der: generateTokenKey() },
      { kid: 'a', der: generateTokenKey() },
    ];
    expect(() => readTokenKeys([])).toThrow('no key');
    expect(() => readTokenKeys(twice)).toThrow('names a twice');
  });

  test('the published set holds each public key and nothing private', () => {
    const der = generateTokenKey();
    const { keys } = publicKeySet(readTokenKeys([{ kid: 'a', der }]));
    const { x } = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' }).export({ format: 'jwk' });
    expect(keys).toEqual([{ kty: 'OKP', crv: 'Ed25519', x, kid: 'a', use: 'sig', alg: 'EdDSA' }]);
  });
});

describe('verified tokens', () => {
  const accountId: AccountId = streamId('acc', 0, 'a'.repeat(20));
  const sessionId: SessionId = streamId('ses', 0, 'a'.repeat(20));
  const until = (expiresAt: number): VerifiedToken => ({
    ...{ accountId, sessionId, role: 'user' },
    issuedAt: 0,
    expiresAt,
  });

  test('are known by their whole text, until they expire', () => {
    const known = createVerifiedTokens();
    known.add('token', until(1000));
    expect(known.get('token', 999)).toMatchObject({ accountId });
    expect(known.get('token.', 999)).toBeUndefined();
    expect(known.get('token', 1000)).toBeUndefined();
    expect(known.size()).toBe(0);
  });

  test('beyond the limit, the one that was not used for longest is forgotten', () => {
    const known = createVerifiedTokens(2);
    known.add('a', until(1000));
    known.add('b', until(1000));
    known.get('a', 0);
    known.add('c', until(1000));
    expect(known.get('b', 0)).toBeUndefined();
    expect(known.get('a', 0)).toBeDefined();
    expect(known.get('c', 0)).toBeDefined();
  });
});
