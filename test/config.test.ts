import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { ConfigError, readConfig } from '../src/config.ts';

const secrets = {
  MASTER_KEY: randomBytes(32).toString('base64'),
  HMAC_KEY: randomBytes(32).toString('base64'),
  TOKEN_KEYS: `k1:${generateKeyPairSync('ed25519').privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64')}`,
};
const env = {
  REDIS_URL: 'redis://127.0.0.1:6379',
  DATABASE_URL: 'postgres://u:secret@127.0.0.1/m',
  ...secrets,
};

function problemsOf(variables: Record<string, string | undefined>): readonly string[] {
  try {
    readConfig(variables);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

describe('configuration', () => {
  it('takes the defaults for what the environment leaves out', () => {
    const config = readConfig(env);
    expect(config.PARTITIONS).toBe(16);
    expect(config.DURABILITY).toBe('memory');
    expect(config.TOKEN_KEYS.map(({ kid }) => kid)).toEqual(['k1']);
    expect(config.CORS_ORIGINS).toEqual([]);
  });

  it('reads how many jobs of a queue run at once, and refuses what is no queue or no number', () => {
    expect(readConfig({ ...env, QUEUE_LIMITS: 'exports:2, webhooks:20' }).QUEUE_LIMITS).toEqual(
      new Map([
        ['exports', 2],
        ['webhooks', 20],
      ]),
    );
    expect(problemsOf({ ...env, QUEUE_LIMITS: 'exports:0,nowhere:2,default,email:2' })).toEqual([
      expect.stringContaining('"exports:0"'),
      expect.stringContaining('"nowhere:2"'),
      expect.stringContaining('"default"'),
    ]);
  });

  it('reads numbers, switches and lists', () => {
    const config = readConfig({
      ...env,
      PORT: '0',
      TRUST_PROXY: 'true',
      CORS_ORIGINS: 'https://a.example, https://b.example',
    });
    expect(config.PORT).toBe(0);
    expect(config.TRUST_PROXY).toBe(true);
    expect(config.CORS_ORIGINS).toEqual(['https://a.example', 'https://b.example']);
  });

  it('reads where requests may go, and says what is no destination and no network', () => {
    const config = readConfig({
      ...env,
      HTTP_REQUEST_ALLOW: 'api.example.com, http://localhost:*',
      HTTP_REQUEST_ALLOW_PRIVATE: '10.1.0.0/16, fd00::/8',
    });
    expect(config.HTTP_REQUEST_ALLOW).toEqual([
      { protocol: 'https:', host: 'api.example.com', port: '443' },
      { protocol: 'http:', host: 'localhost', port: '*' },
    ]);
    expect(config.HTTP_REQUEST_ALLOW_PRIVATE).toEqual(['10.1.0.0/16', 'fd00::/8']);
    const problems = problemsOf({
      ...env,
      HTTP_REQUEST_ALLOW: 'a/b, c',
      HTTP_REQUEST_ALLOW_PRIVATE: '10.0.0.0, 10.0.0.0/33, fd00::/129, a/8',
    });
    expect(problems.map((problem) => problem.split(' is')[0])).toEqual([
      'HTTP_REQUEST_ALLOW: "a/b"',
      'HTTP_REQUEST_ALLOW_PRIVATE: "10.0.0.0"',
      'HTTP_REQUEST_ALLOW_PRIVATE: "10.0.0.0/33"',
      'HTTP_REQUEST_ALLOW_PRIVATE: "fd00::/129"',
      'HTTP_REQUEST_ALLOW_PRIVATE: "a/8"',
    ]);
  });

  it('reads who emails are from and for; a server goes with a sender', () => {
    const mail = {
      SMTP_URL: 'smtp://u:hunter2@mail.example.com:587',
      EMAIL_FROM: 'Mill <a@example.com>',
      EMAIL_RECIPIENTS: '*@example.org',
    };
    const config = readConfig({ ...env, ...mail });
    expect(config.EMAIL_FROM).toEqual({ name: 'Mill', address: 'a@example.com' });
    expect(config.EMAIL_RECIPIENTS).toEqual(['*@example.org']);
    expect(problemsOf({ ...env, ...mail, EMAIL_FROM: '' })).toEqual(['EMAIL_FROM goes with SMTP_URL']);
    expect(problemsOf({ ...env, ...mail, EMAIL_FROM: 'me', EMAIL_SENDERS: 'you' })).toHaveLength(2);
    expect(problemsOf({ ...env, ...mail, SMTP_URL: 'http://u:hunter2@a' }).join()).not.toContain('hunter2');
  });

  it('cannot be changed once read', () => {
    expect(Object.isFrozen(readConfig(env))).toBe(true);
  });

  it('reports every problem at once', () => {
    const problems = problemsOf({
      ...env,
      REDIS_URL: undefined,
      PORT: 'eighty',
      DURABILITY: 'eternal',
      HMAC_KEY: 'short',
    });
    expect(problems).toHaveLength(4);
    expect(problems.join('\n')).toMatch(
      /REDIS_URL is missing[\s\S]*PORT=eighty[\s\S]*DURABILITY=eternal[\s\S]*HMAC_KEY/,
    );
  });

  it('shows no secret in a problem', () => {
    const problems = problemsOf({ ...env, DATABASE_URL: 'mysql://root:hunter2@db', MASTER_KEY: 'hunter2' });
    expect(problems).toHaveLength(2);
    expect(problems.join('\n')).not.toContain('hunter2');
  });

  it('takes several master keys while they are rotated, the first one first', () => {
    const [one, other] = [Buffer.alloc(32, 1).toString('base64'), Buffer.alloc(32, 2).toString('base64')];
    const { MASTER_KEY } = readConfig({ ...env, MASTER_KEY: `${one}, ${other}` });
    expect(MASTER_KEY.map((key) => key.toString('base64'))).toEqual([one, other]);
    expect(problemsOf({ ...env, MASTER_KEY: `${one},${other},${one}` })).toEqual([
      'MASTER_KEY names one key twice',
    ]);
    expect(problemsOf({ ...env, MASTER_KEY: `${one},` })).toEqual([
      expect.stringContaining('MASTER_KEY must be'),
    ]);
  });

  it('gives each process without INSTANCE_ID a name of its own', () => {
    expect(readConfig(env).INSTANCE_ID).not.toBe(readConfig(env).INSTANCE_ID);
    expect(readConfig({ ...env, INSTANCE_ID: 'pod-1' }).INSTANCE_ID).toBe('pod-1');
  });
});
