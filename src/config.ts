import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { type Static, type TSchema, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import {
  addressesOf,
  convert,
  databaseUrlsOf,
  destinationsOf,
  expected,
  listOf,
  networksOf,
  queueLimitsOf,
  senderOf,
  shown,
  tokenKeysOf,
} from './config-values.ts';
import type { Destination } from './domain/destinations.ts';
import type { Sender } from './domain/emails.ts';

/**
 * Everything that the environment says, each variable with its default and what it means. `docs/reference`
 * lists the same table. Values arrive as text; `text → value` happens in `readers`, by the schema's type.
 */
const Variables = Type.Object({
  REDIS_URL: Type.String({
    pattern: '^rediss?://',
    description: 'The hot log, e.g. redis://127.0.0.1:6379/0',
  }),
  DATABASE_URL: Type.String({ pattern: '^postgres(ql)?://', description: 'The ledger and the read models' }),
  DATABASE_REPLICA_URLS: Type.String({
    default: '',
    description:
      'Streaming replicas of that Postgres, which queries may be answered from, comma separated; empty: none',
  }),
  REPLICA_LAG_MS: Type.Integer({
    default: 1000,
    minimum: 500,
    maximum: 600_000,
    description:
      'How old an answer from a replica may be, where the query did not say what it must include (Consistent-With)',
  }),
  MASTER_KEY: Type.String({
    description:
      'Base64 of 32 bytes: wraps the key of each person. Lose it and no personal field opens. While it is rotated a list, comma separated: the first wraps, all open',
  }),
  HMAC_KEY: Type.String({
    description:
      'Base64 of 32 bytes: names claims and email streams, signs cursors and download URLs. Never changes',
  }),
  TOKEN_KEYS: Type.String({
    description:
      'Ed25519 keys of access tokens, kid:base64-of-pkcs8-DER, comma separated; the first signs, all verify',
  }),
  HOST: Type.String({ default: '127.0.0.1', description: 'Address that the API listens on' }),
  PORT: Type.Integer({
    default: 8080,
    minimum: 0,
    maximum: 65535,
    description: 'Port of the API; 0 takes a free one',
  }),
  MANAGEMENT_HOST: Type.String({
    default: '127.0.0.1',
    description: 'Address of /metrics, /livez and /readyz of each process',
  }),
  MANAGEMENT_PORT: Type.Integer({
    default: 0,
    minimum: 0,
    maximum: 65535,
    description: 'Their port; 0 takes a free one',
  }),
  TRUST_PROXY: Type.Boolean({
    default: false,
    description: "Take the caller's address from X-Forwarded-For",
  }),
  CORS_ORIGINS: Type.String({
    default: '',
    description: 'Origins that browsers may call from, comma separated; empty: none',
  }),
  KEY_PREFIX: Type.String({
    default: 'mill',
    pattern: '^[A-Za-z0-9_.-]{1,40}$',
    description: 'First part of every Redis key',
  }),
  PARTITIONS: Type.Integer({
    default: 16,
    minimum: 1,
    maximum: 1024,
    description: 'Fixed for the life of an installation',
  }),
  DURABILITY: Type.Enum(['memory', 'replicated', 'ledger'], {
    default: 'memory',
    description: 'What a command waits for unless it says so itself',
  }),
  DURABILITY_TIMEOUT_MS: Type.Integer({
    default: 5000,
    minimum: 100,
    maximum: 60000,
    description: 'How long it waits for that',
  }),
  IDEMPOTENCY_RETENTION: Type.Integer({
    default: 86400,
    minimum: 60,
    maximum: 2592000,
    description: 'Seconds that an idempotency key is good for',
  }),
  READ_CACHE_SECONDS: Type.Integer({
    default: 0,
    minimum: 0,
    maximum: 60,
    description:
      'How long jobs, accounts, exports and schedules that were read are kept in Redis, for who reads the same again: longest that an answer may be old whose change nobody told the cache of. The same for all processes; 0: there is no cache',
  }),
  LOG_KEEP_SECONDS: Type.Integer({
    default: 60,
    minimum: 1,
    maximum: 604_800,
    description:
      'How long Redis keeps events that the ledger has: Postgres may be set back by that much, and nothing is lost. About 320 bytes each',
  }),
  LOG_KEEP_EVENTS: Type.Integer({
    default: 1000,
    minimum: 10,
    maximum: 10_000_000,
    description: 'The newest events of each partition, which Redis keeps however old they are',
  }),
  DATABASE_POOL: Type.Integer({
    default: 10,
    minimum: 2,
    maximum: 500,
    description: 'Postgres connections of each process',
  }),
  BLOB_DIR: Type.String({
    default: '.millrace/blobs',
    minLength: 1,
    description: 'Folder of exports and of the ledger’s archives; all roles share it',
  }),
  WORKER_CONCURRENCY: Type.Integer({
    default: 8,
    minimum: 1,
    maximum: 1000,
    description: 'Jobs that one worker process runs side by side',
  }),
  QUEUE_LIMITS: Type.String({
    default: '',
    description:
      'Jobs of a queue that run at once over all workers, e.g. exports:2,webhooks:20; a queue that is not named has no limit. The same for all workers',
  }),
  WORKER_CHILDREN: Type.Integer({
    default: 1,
    minimum: 1,
    maximum: 100,
    description:
      'Processes that one worker may have besides, each for a job of which a run ended without a word',
  }),
  WORKER_CHILD_MEMORY_MB: Type.Integer({
    default: 512,
    minimum: 64,
    maximum: 1_048_576,
    description: 'Heap of each of these, in MiB',
  }),
  SCHEDULE_SHORTEST_PAUSE_SECONDS: Type.Integer({
    default: 60,
    minimum: 1,
    maximum: 86_400,
    description: 'Schedules that fire more often are refused',
  }),
  HTTP_REQUEST_ALLOW: Type.String({
    default: '',
    description:
      'Where http.request and callbacks may go, comma separated: api.example.com, *.example.org, api.example.com:8443, http://localhost:*, * (any host, https on its own port); empty: nowhere',
  }),
  HTTP_REQUEST_ALLOW_PRIVATE: Type.String({
    default: '',
    description:
      'Networks that they may reach although they are private, e.g. 10.1.0.0/16, comma separated; empty: none',
  }),
  SMTP_URL: Type.String({
    default: '',
    pattern: '^(smtps?://.+)?$',
    description:
      'Where emails are handed in, e.g. smtp://user:password@mail.example.com:587; empty: none are sent',
  }),
  EMAIL_FROM: Type.String({
    default: '',
    description: 'Who they are from unless they say so, e.g. Millrace <noreply@example.com>',
  }),
  EMAIL_SENDERS: Type.String({
    default: '',
    description: 'Who else they may be from, comma separated: ada@example.com, *@example.com',
  }),
  EMAIL_RECIPIENTS: Type.String({
    default: '',
    description:
      'Whom email.send may write to, comma separated: ada@example.com, *@example.com, *; empty: nobody',
  }),
  BCRYPT_COST: Type.Integer({
    default: 12,
    minimum: 4,
    maximum: 16,
    description: 'Doubling of the work for each password hash',
  }),
  RATE_LIMITS: Type.Boolean({ default: true, description: 'Throttle registering and logging in' }),
  STREAMS_PER_ACCOUNT: Type.Integer({
    default: 100,
    minimum: 1,
    maximum: 100000,
    description: 'Live streams that one account may have open in one API process',
  }),
  TRACE_SAMPLE_RATIO: Type.Number({
    default: 1,
    minimum: 0,
    maximum: 1,
    description: 'Part of all requests that is traced',
  }),
  OTEL_EXPORTER_OTLP_ENDPOINT: Type.String({
    default: '',
    description: 'Where traces go (OTLP over HTTP), e.g. http://127.0.0.1:4318; empty: nowhere',
  }),
  LOG_LEVEL: Type.Enum(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'], {
    default: 'info',
    description: 'Least level that is logged',
  }),
  SHUTDOWN_SECONDS: Type.Integer({
    default: 20,
    minimum: 1,
    maximum: 3600,
    description: 'Time for running work to end after SIGTERM',
  }),
  INSTANCE_ID: Type.String({
    default: '',
    pattern: '^[A-Za-z0-9_.-]{0,100}$',
    description:
      'A name that only one living process has, kept over its restarts; empty: a new one each time',
  }),
});

type Values = Static<typeof Variables>;

export type Config = Readonly<Omit<Values, keyof Read> & Read>;

/** Values that are more than their text. */
type Read = {
  MASTER_KEY: readonly Buffer[];
  HMAC_KEY: Buffer;
  TOKEN_KEYS: readonly { readonly kid: string; readonly der: Buffer }[];
  CORS_ORIGINS: readonly string[];
  DATABASE_REPLICA_URLS: readonly string[];
  QUEUE_LIMITS: ReadonlyMap<string, number>;
  HTTP_REQUEST_ALLOW: readonly Destination[];
  HTTP_REQUEST_ALLOW_PRIVATE: readonly string[];
  EMAIL_FROM: Sender | undefined;
  EMAIL_SENDERS: readonly string[];
  EMAIL_RECIPIENTS: readonly string[];
};

/** What the environment says cannot be used; `problems` has a line for each variable at fault. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';
  readonly problems: readonly string[];
  constructor(problems: readonly string[]) {
    super(`The environment can't be used:\n${problems.map((problem) => `  ${problem}`).join('\n')}`);
    this.problems = problems;
  }
}

/** The variables with their meaning and defaults, for the reference in `docs/` and for `--help`. */
export const variables: Readonly<Record<string, TSchema & { description?: string; default?: unknown }>> =
  Variables.properties;

/**
 * Reads the environment into a frozen, typed value, and reports every problem at once.
 * @throws ConfigError
 */
export function readConfig(env: Readonly<Record<string, string | undefined>>): Config {
  const problems: string[] = [];
  const values: Record<string, unknown> = {};
  for (const [name, schema] of Object.entries(variables)) {
    const text = env[name];
    const value = text === undefined || text === '' ? schema.default : convert(text, schema);
    if (value === undefined) problems.push(`${name} is missing: ${schema.description}`);
    else if (!Compile(schema).Check(value))
      problems.push(`${name}=${shown(name, text)} is not ${expected(schema)}`);
    values[name] = value;
  }
  const key = (name: 'MASTER_KEY' | 'HMAC_KEY', text: unknown): Buffer => {
    const bytes = Buffer.from(String(text ?? ''), 'base64');
    if (text !== undefined && bytes.length !== 32) {
      problems.push(`${name} must be the base64 of 32 bytes; make one with: openssl rand -base64 32`);
    }
    return bytes;
  };
  const masters = values.MASTER_KEY === undefined ? [] : String(values.MASTER_KEY).split(',');
  const MASTER_KEY = masters.map((text) => key('MASTER_KEY', text.trim()));
  if (new Set(MASTER_KEY.map((each) => each.toString('hex'))).size < MASTER_KEY.length) {
    problems.push('MASTER_KEY names one key twice');
  }
  const HMAC_KEY = key('HMAC_KEY', values.HMAC_KEY);
  const TOKEN_KEYS = tokenKeysOf(values.TOKEN_KEYS, problems);
  const lists = {
    DATABASE_REPLICA_URLS: read(values, 'DATABASE_REPLICA_URLS', databaseUrlsOf, problems),
    QUEUE_LIMITS: read(values, 'QUEUE_LIMITS', queueLimitsOf, problems),
    HTTP_REQUEST_ALLOW: read(values, 'HTTP_REQUEST_ALLOW', destinationsOf, problems),
    HTTP_REQUEST_ALLOW_PRIVATE: read(values, 'HTTP_REQUEST_ALLOW_PRIVATE', networksOf, problems),
    EMAIL_FROM: read(values, 'EMAIL_FROM', senderOf, problems),
    EMAIL_SENDERS: read(values, 'EMAIL_SENDERS', addressesOf, problems),
    EMAIL_RECIPIENTS: read(values, 'EMAIL_RECIPIENTS', addressesOf, problems),
  };
  if (values.SMTP_URL !== '' && values.EMAIL_FROM === '') problems.push('EMAIL_FROM goes with SMTP_URL');
  if (problems.length > 0) throw new ConfigError(problems);

  const known = values as Values;
  return Object.freeze({
    ...known,
    MASTER_KEY,
    HMAC_KEY,
    TOKEN_KEYS,
    CORS_ORIGINS: listOf(known.CORS_ORIGINS),
    ...lists,
    INSTANCE_ID:
      known.INSTANCE_ID ||
      `${hostname()
        .replace(/[^A-Za-z0-9_.-]/g, '-')
        .slice(0, 60)}-${randomBytes(4).toString('hex')}`,
  });
}

/** Reads a value that is more than its text. */
function read<T>(
  values: Readonly<Record<string, unknown>>,
  name: keyof Values,
  reader: (name: string, text: string, problems: string[]) => T,
  problems: string[],
): T {
  return reader(name, String(values[name] ?? ''), problems);
}
