import { createPrivateKey } from 'node:crypto';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { makeSecrets, readOrMakeSecrets, readSecrets } from '../../deploy/local/secrets.mjs';

function file(): string {
  const dir = mkdtempSync(join(tmpdir(), 'millrace-secrets-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return join(dir, 'env');
}

test('the first start makes keys that nobody else can read, and later starts use them', () => {
  const env = file();
  const made = readOrMakeSecrets(env);
  expect(statSync(env).mode & 0o777).toBe(0o600);
  expect(readOrMakeSecrets(env)).toEqual(made);
  expect(readSecrets(env)).toEqual(made);
});

test('a key that is missing is made, and those that are there stay', () => {
  const env = file();
  writeFileSync(env, '# mine\nMASTER_KEY="kept"\n');
  const { MASTER_KEY, HMAC_KEY } = readOrMakeSecrets(env);
  expect(MASTER_KEY).toBe('kept');
  expect(readSecrets(env)).toMatchObject({ MASTER_KEY: 'kept', HMAC_KEY });
});

test('keys have the shapes that the configuration asks for', () => {
  const { MASTER_KEY = '', HMAC_KEY = '', TOKEN_KEYS = '' } = makeSecrets();
  expect(Buffer.from(MASTER_KEY, 'base64')).toHaveLength(32);
  expect(Buffer.from(HMAC_KEY, 'base64')).toHaveLength(32);
  const [kid, der = ''] = TOKEN_KEYS.split(':');
  expect(kid).toMatch(/^[0-9a-f]{12}$/);
  const key = createPrivateKey({ key: Buffer.from(der, 'base64'), format: 'der', type: 'pkcs8' });
  expect(key.asymmetricKeyType).toBe('ed25519');
});
