// The keys of this installation: made on the first start, kept in .millrace/env.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { chmodSync, existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

/**
 * @returns {Record<string, string>} `TOKEN_KEYS` is `<kid>:<base64 of an Ed25519 private key, pkcs8 DER>`
 */
export function makeSecrets() {
  const { privateKey } = generateKeyPairSync('ed25519');
  const token = privateKey.export({ type: 'pkcs8', format: 'der' }).toString('base64');
  return {
    MASTER_KEY: randomBytes(32).toString('base64'),
    HMAC_KEY: randomBytes(32).toString('base64'),
    TOKEN_KEYS: `${randomBytes(6).toString('hex')}:${token}`,
  };
}

/**
 * @param {string} file
 * @returns {Record<string, string>} what the file holds; {} when there is none
 */
export function readSecrets(file) {
  if (!existsSync(file)) return {};
  const pairs = readFileSync(file, 'utf8')
    .split('\n')
    .map((line) => line.match(/^\s*([A-Z][A-Z0-9_]*)=(.*)$/))
    .filter((match) => match !== null)
    .map(([, name = '', value = '']) => [name, value.trim().replace(/^(["'])(.*)\1$/, '$2')]);
  return Object.fromEntries(pairs);
}

/**
 * A key that is there is never made anew: what it has encrypted could not be read again.
 * @param {string} file
 * @returns {Record<string, string>}
 */
export function readOrMakeSecrets(file) {
  const found = readSecrets(file);
  const made = Object.entries(makeSecrets()).filter(([name]) => found[name] === undefined);
  if (made.length > 0) {
    const before = existsSync(file) ? `${readFileSync(file, 'utf8').trimEnd()}\n` : HEADER;
    mkdirSync(dirname(file), { recursive: true });
    const draft = `${file}.${process.pid}`;
    writeFileSync(draft, `${before}${made.map(([name, value]) => `${name}=${value}\n`).join('')}`, {
      mode: 0o600,
    });
    chmodSync(draft, 0o600);
    renameSync(draft, file);
  }
  return { ...found, ...Object.fromEntries(made) };
}

const HEADER = `# The keys of this installation. Without MASTER_KEY no personal data in it can be read again: back it up.
# The environment wins over this file.
`;
