import { afterEach, describe, expect, it } from 'vitest';
import { type Management, type Readiness, startManagement } from '../../src/telemetry/management.ts';
import { createMetrics } from '../../src/telemetry/metrics.ts';

let management: Management;
const errors: object[] = [];

afterEach(() => management.close());

async function serve(ready: () => Promise<Readiness> = async () => ({ ok: true, checks: {} })) {
  const metrics = createMetrics({ node: false });
  const logger = { error: (fields: object) => errors.push(fields) };
  management = await startManagement({ host: '127.0.0.1', port: 0, metrics, ready, logger: logger as never });
  return (path: string, init?: RequestInit) => fetch(`http://127.0.0.1:${management.port}${path}`, init);
}

describe('the management port', () => {
  it('tells metrics in the format that is asked for', async () => {
    const ask = await serve();
    const plain = await ask('/metrics');
    expect(plain.headers.get('content-type')).toContain('text/plain');
    const open = await ask('/metrics', {
      headers: { accept: 'application/openmetrics-text; version=1.0.0' },
    });
    expect(open.headers.get('content-type')).toContain('application/openmetrics-text');
    expect(await open.text()).toContain('# EOF');
  });

  it('says that the process lives', async () => {
    const ask = await serve(async () => ({ ok: false, checks: {} }));
    expect((await ask('/livez')).status).toBe(200);
  });

  it('says 503 with a line for each dependency while one is missing', async () => {
    const checks = { redis: { ok: true }, postgres: { ok: false, detail: 'ECONNREFUSED' } };
    const ask = await serve(async () => ({ ok: false, checks }));
    const answer = await ask('/readyz');
    expect(answer.status).toBe(503);
    expect(await answer.json()).toEqual({ ok: false, checks });
  });

  it('is ready with 200', async () => {
    expect((await (await serve())('/readyz')).status).toBe(200);
  });

  it('says 503 where the check itself fails or hangs', async () => {
    const failing = await serve(() => Promise.reject(new TypeError('secret')));
    const answer = await failing('/readyz');
    expect(answer.status).toBe(503);
    expect(await answer.text()).not.toContain('secret');
    await management.close();
    const hanging = await serve(() => new Promise(() => {}));
    expect((await hanging('/readyz')).status).toBe(503);
  });

  it('answers HEAD without a body', async () => {
    const answer = await (await serve())('/metrics', { method: 'HEAD' });
    expect(answer.status).toBe(200);
    expect(Number(answer.headers.get('content-length'))).toBeGreaterThan(100);
    expect(await answer.text()).toBe('');
  });

  it('refuses other methods with 405 and other paths with 404', async () => {
    const ask = await serve();
    const posted = await ask('/metrics', { method: 'POST' });
    expect(posted.status).toBe(405);
    expect(posted.headers.get('allow')).toBe('GET, HEAD');
    expect((await ask('/nothing')).status).toBe(404);
  });

  it('says so when its port is taken', async () => {
    await serve();
    const again = { host: '127.0.0.1', port: management.port, metrics: createMetrics({ node: false }) };
    const ready = async () => ({ ok: true, checks: {} });
    await expect(
      startManagement({ ...again, ready, logger: { error: () => {} } as never }),
    ).rejects.toMatchObject({
      code: 'EADDRINUSE',
    });
  });
});
