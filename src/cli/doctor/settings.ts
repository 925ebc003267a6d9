import { access, constants, statfs } from 'node:fs/promises';
import type { Config } from '../../config.ts';
import { type Finding, fail, messageOf, ok, warn } from './finding.ts';

/** Of 32 random bytes some 30 differ; of what somebody typed, few. */
const DIFFERENT_BYTES = 20;

/** This machine, and what the environment says. */
export async function examineSettings(config: Config): Promise<Finding[]> {
  return [node(process.versions.node), ...keys(config), ...rest(config), await blobs(config)];
}

export function node(version: string): Finding {
  if (Number.parseInt(version, 10) >= 24) return ok('node', version);
  return fail('node', version, 'use Node 24 or newer');
}

export function keys({
  MASTER_KEY,
  HMAC_KEY,
  TOKEN_KEYS,
}: Pick<Config, 'MASTER_KEY' | 'HMAC_KEY' | 'TOKEN_KEYS'>): Finding[] {
  const one = (name: string, key: Buffer): Finding => {
    const isTyped = new Set(key).size < DIFFERENT_BYTES || /^[\x20-\x7e]+$/.test(key.toString('latin1'));
    if (!isTyped) return ok(name, '32 bytes that look random');
    return fail(name, 'was made up rather than drawn: it can be guessed', KEY_MENDS[name] ?? '');
  };
  return [
    ...MASTER_KEY.map((key) =>
      key.equals(HMAC_KEY)
        ? fail('MASTER_KEY', 'the same as HMAC_KEY: who has one has both', KEY_MENDS.MASTER_KEY ?? '')
        : one('MASTER_KEY', key),
    ),
    one('HMAC_KEY', HMAC_KEY),
    TOKEN_KEYS.length > 2
      ? warn(
          'TOKEN_KEYS',
          `${TOKEN_KEYS.length} keys are accepted`,
          'keep the one that signs and the one before it',
        )
      : ok('TOKEN_KEYS', `${TOKEN_KEYS.length === 1 ? '1 key' : '2 keys'}`),
  ];
}

const KEY_MENDS: Readonly<Record<string, string>> = {
  MASTER_KEY:
    'draw one with openssl rand -base64 32 and put it in front of this one, a comma between them; then millrace keys rotate',
  HMAC_KEY: 'draw one with openssl rand -base64 32, before there are people: emails are found by it alone',
};

function rest({ RATE_LIMITS, CORS_ORIGINS, LOG_LEVEL }: Config): Finding[] {
  return [
    RATE_LIMITS
      ? ok('RATE_LIMITS', 'on')
      : warn('RATE_LIMITS', 'off: passwords can be tried without end', 'RATE_LIMITS=true'),
    CORS_ORIGINS.includes('*')
      ? warn('CORS_ORIGINS', '*: every page may call the API', 'name the origins of your own pages')
      : ok('CORS_ORIGINS', CORS_ORIGINS.join(', ') || 'none'),
    LOG_LEVEL === 'debug' || LOG_LEVEL === 'trace'
      ? warn('LOG_LEVEL', `${LOG_LEVEL}: it costs more than the work`, 'LOG_LEVEL=info')
      : ok('LOG_LEVEL', LOG_LEVEL),
  ];
}

async function blobs({ BLOB_DIR }: Config): Promise<Finding> {
  try {
    await access(BLOB_DIR, constants.R_OK | constants.W_OK);
    const { bavail, blocks, bsize } = await statfs(BLOB_DIR);
    const said = `${Math.round((bavail * bsize) / 1_073_741_824)} GiB free of ${Math.round((blocks * bsize) / 1_073_741_824)} where files lie`;
    const mend = 'make room, or move BLOB_DIR: exports and archives of the ledger are written there';
    if (bavail < blocks * 0.02) return fail('BLOB_DIR', said, mend);
    return bavail < blocks * 0.1 ? warn('BLOB_DIR', said, mend) : ok('BLOB_DIR', said);
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') {
      return warn(
        'BLOB_DIR',
        `${BLOB_DIR} is not there`,
        'the first file makes it; if there were files, mount what held them',
      );
    }
    return fail('BLOB_DIR', messageOf(error), 'it must be a folder that this user can read and write');
  }
}
