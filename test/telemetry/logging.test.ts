import { describe, expect, it } from 'vitest';
import { createLogger, type Logger } from '../../src/telemetry/logging.ts';
import { startTracing } from '../../src/telemetry/start.ts';
import { currentTraceparent, withSpan } from '../../src/telemetry/tracing.ts';

const SECRET = 'correct-horse-battery-staple';

function logged(write: (logger: Logger) => void): string {
  let lines = '';
  const destination = { write: (line: string) => (lines += line) };
  write(createLogger({ level: 'debug', role: 'api', instanceId: 'a-1', destination }));
  return lines;
}

function parsed(write: (logger: Logger) => void): Record<string, unknown> {
  return JSON.parse(logged(write));
}

describe('a log line', () => {
  it('is JSON and says who wrote it, when and how severe', () => {
    expect(parsed((logger) => logger.info({ partition: 3 }, 'owned'))).toMatchObject({
      level: 'info',
      role: 'api',
      instanceId: 'a-1',
      partition: 3,
      msg: 'owned',
      time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/),
    });
  });

  it('carries the ids of the active span, and none outside of one', async () => {
    const tracing = startTracing({ serviceName: 't', role: 'api', instanceId: 'a-1', sampleRatio: 0 });
    const [line, traceparent] = withSpan(
      'x',
      {},
      () => [parsed((l) => l.info('in')), currentTraceparent()] as const,
    );
    expect(traceparent).toContain(`${line.traceId}-${line.spanId}`);
    expect(parsed((logger) => logger.info('out'))).not.toHaveProperty('traceId');
    await tracing.shutdown();
  });

  it('keeps what is no secret as it is', () => {
    const fields = {
      fencingToken: 17,
      orderingKey: 'k',
      keyId: 'x',
      blob: { key: 'exports/1.gz' },
      at: null,
      list: [1],
    };
    expect(parsed((logger) => logger.info(fields, 'kept'))).toMatchObject(fields);
  });

  it('leaves the object that was logged unchanged', () => {
    const fields = { account: { password: SECRET } };
    logged((logger) => logger.info(fields));
    expect(fields.account.password).toBe(SECRET);
  });
});

describe('a secret never shows', () => {
  class Carrier {
    toJSON() {
      return { password: SECRET };
    }
  }
  const withCommand = Object.assign(new Error('ERR'), {
    command: { name: 'set', args: ['k', SECRET] },
    detail: SECRET,
  });
  const cyclic: Record<string, unknown> = { password: SECRET };
  cyclic.self = cyclic;

  it.each<[string, (logger: Logger) => void]>([
    ['by itself', (l) => l.info({ password: SECRET })],
    ['nested', (l) => l.info({ a: { b: { c: { d: { newPassword: SECRET } } } } })],
    ['in a list', (l) => l.info({ keys: [{ apiKey: SECRET }, [{ secret: SECRET }]] })],
    ['as an object or a list', (l) => l.info({ cookies: { sid: SECRET }, h: { authorization: [SECRET] } })],
    [
      'in headers',
      (l) => l.info({ headers: { Authorization: SECRET, 'X-API-Key': SECRET, 'set-cookie': SECRET } }),
    ],
    ['in SCREAMING_CASE', (l) => l.info({ env: { DATABASE_PASSWORD: SECRET, MASTER_KEY: SECRET } })],
    ["in a child's bindings", (l) => l.child({ refreshToken: SECRET, deep: { password: SECRET } }).info('x')],
    ['from a toJSON', (l) => l.info({ carrier: new Carrier() })],
    ['on an error of a client library', (l) => l.error({ err: withCommand }, 'failed')],
    ['on a bare error', (l) => l.error(withCommand)],
    ['on a cause', (l) => l.error({ err: new Error('x', { cause: withCommand }) })],
    ['on an error under another key', (l) => l.error({ job: { failure: withCommand } })],
    ['on something thrown that is no error', (l) => l.error({ err: { password: SECRET } })],
    ['in a cycle', (l) => l.info(cyclic)],
    ['in a URL', (l) => l.info(`cannot reach redis://default:${SECRET}@host:6379/0`)],
    ['in the message of an error', (l) => l.error(new Error(`Bearer ${SECRET} is refused`))],
    ['in a query', (l) => l.info({ url: `/v1/feed?from=1&ticket=${SECRET}` })],
    ['as one of our API keys', (l) => l.info(`key mill_live_01abc_${SECRET.replaceAll('-', '_')} used`)],
    ['as a JWT', (l) => l.info(`eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJzdGFwbGUifQ.${SECRET}`)],
    ['in a body that is JSON', (l) => l.info({ body: JSON.stringify({ password: SECRET }) })],
    [
      'in a request',
      (l) => l.info({ req: { method: 'GET', url: `/x?token=${SECRET}`, headers: { cookie: SECRET } } }),
    ],
  ])('%s', (_where, write) => {
    const line = logged(write);
    expect(line).not.toBe('');
    expect(line).not.toMatch(/correct|battery|staple/);
    for (const each of line.trim().split('\n')) expect(() => JSON.parse(each)).not.toThrow();
  });

  it('nor a mail address, wherever it stands', () => {
    const line = logged((l) =>
      l.info({ email: 'ann@example.org', to: 'ann@example.org' }, 'sent to ann@example.org'),
    );
    expect(line).not.toContain('ann');
  });
});

describe('redaction', () => {
  it('leaves paths and versions alone', () => {
    const path = '/srv/node_modules/.store/@scope+pkg@1.2.3/index.js';
    expect(parsed((logger) => logger.info(path)).msg).toBe(path);
  });

  it.each([
    'eyJ-',
    'eyJaaaaaaaa.',
    'a',
    'a@',
    'a.',
    '://a:',
    '"password":"',
    'Bearer ',
    '?token=',
    'mill_a_',
    '\\"',
    '[',
  ])('of a megabyte made of %j takes no time', (piece) => {
    const text = piece.repeat(1_000_000 / piece.length);
    const started = performance.now();
    logged((logger) => logger.info({ text }, 'hostile'));
    expect(performance.now() - started).toBeLessThan(1_000);
  });
});

describe('an error', () => {
  it('is told with type, code, stack and causes', () => {
    const cause = Object.assign(new Error('refused'), { code: 'ECONNREFUSED' });
    const error = new AggregateError([new TypeError('first')], 'all failed', { cause });
    expect(parsed((logger) => logger.error({ err: error }, 'no')).err).toMatchObject({
      type: 'AggregateError',
      message: 'all failed',
      stack: expect.stringContaining('logging.test.ts'),
      cause: { type: 'Error', message: 'refused', code: 'ECONNREFUSED' },
      errors: [{ type: 'TypeError', message: 'first' }],
    });
  });
});
