import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Logger } from './logging.ts';
import type { Metrics } from './metrics.ts';

/** Whether a process can do its work, with a line for each thing that it depends on. */
export type Readiness = {
  readonly ok: boolean;
  readonly checks: Record<string, { readonly ok: boolean; readonly detail?: string }>;
};

export type ManagementOptions = {
  readonly host: string;
  /** 0 takes any free port. */
  readonly port: number;
  readonly metrics: Pick<Metrics, 'render'>;
  /** Asked on every `/readyz`; given 2 s, and a rejection is "not ready". */
  readonly ready: () => Promise<Readiness>;
  readonly logger: Pick<Logger, 'error'>;
};

export type Management = { readonly port: number; close(): Promise<void> };

type Answer = { readonly status: number; readonly contentType: string; readonly body: string };

const READY_TIMEOUT_MS = 2_000;

/**
 * The server that every process has for its operators, on a port of its own: `/metrics` (Prometheus, or
 * OpenMetrics by `Accept`), `/livez` (200 while the event loop turns), `/readyz` (200 or 503 with
 * `{ok, checks}`). GET and HEAD only. It tells nothing secret, but is meant for loopback or a private network.
 *
 * @throws Error with `code: 'EADDRINUSE'` or alike where the port can't be had
 */
export async function startManagement(options: ManagementOptions): Promise<Management> {
  const server = createServer({ requestTimeout: 10_000, keepAliveTimeout: 5_000 }, (request, response) => {
    answer(request, options)
      .catch((err: unknown): Answer => {
        options.logger.error({ err }, 'management request failed');
        return json(500, { ok: false, error: 'internal error' });
      })
      .then((found) => send(request, response, found));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port, options.host, () => {
      server.off('error', reject);
      server.on('error', (err) => options.logger.error({ err }, 'management server failed'));
      resolve();
    });
  });
  return {
    port: (server.address() as AddressInfo).port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function answer(request: IncomingMessage, { metrics, ready }: ManagementOptions): Promise<Answer> {
  const path = (request.url ?? '/').split('?', 1)[0];
  if (path !== '/metrics' && path !== '/livez' && path !== '/readyz') {
    return json(404, { error: 'not found', paths: ['/metrics', '/livez', '/readyz'] });
  }
  if (request.method !== 'GET' && request.method !== 'HEAD') {
    return json(405, { error: 'method not allowed', allow: ['GET', 'HEAD'] });
  }
  if (path === '/livez') return json(200, { ok: true });
  if (path === '/metrics') return { status: 200, ...(await metrics.render(request.headers.accept)) };
  const state = await inTime(ready);
  return json(state.ok ? 200 : 503, state);
}

/** A dependency that hangs must not make the probe hang: the orchestrator would learn nothing from that. */
async function inTime(ready: () => Promise<Readiness>): Promise<Readiness> {
  const { promise, resolve } = Promise.withResolvers<Readiness>();
  const late = { ok: false, checks: { readiness: { ok: false, detail: 'no answer within 2 s' } } };
  const timer = setTimeout(resolve, READY_TIMEOUT_MS, late);
  try {
    return await Promise.race([ready(), promise]);
  } catch (error) {
    const detail = error instanceof Error ? error.name : 'failed';
    return { ok: false, checks: { readiness: { ok: false, detail } } };
  } finally {
    clearTimeout(timer);
  }
}

function json(status: number, value: object): Answer {
  return { status, contentType: 'application/json; charset=utf-8', body: `${JSON.stringify(value)}\n` };
}

function send(
  request: IncomingMessage,
  response: ServerResponse,
  { status, contentType, body }: Answer,
): void {
  response.writeHead(status, {
    'content-type': contentType,
    'content-length': Buffer.byteLength(body),
    'cache-control': 'no-store',
    ...(status === 405 ? { allow: 'GET, HEAD' } : {}),
  });
  response.end(request.method === 'HEAD' ? undefined : body);
}
