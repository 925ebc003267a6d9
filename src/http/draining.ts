import { Server, type Socket } from 'node:net';
import { setImmediate as nextRound } from 'node:timers/promises';
import type { FastifyReply } from 'fastify';
import { Problem } from './problems.ts';
import type { App } from './types.ts';

/** Where numbers of streams go: `dropped` counts those of clients that did not read. */
export type StreamMetrics = {
  readonly openStreams: { set(count: number): void };
  readonly droppedStreams: { inc(): void };
};

/**
 * Live streams, which would otherwise keep a stopping server from ending.
 * @param options.perAccount how many of one account may be open in this process; default: any number
 */
export function createStreams(
  options: { readonly perAccount?: number; readonly metrics?: StreamMetrics } = {},
) {
  const { perAccount = Number.POSITIVE_INFINITY, metrics } = options;
  const open = new Map<AbortController, string>();
  const counts = new Map<string, number>();
  let stopped = false;

  function change(account: string, by: 1 | -1): void {
    const count = (counts.get(account) ?? 0) + by;
    if (count === 0) counts.delete(account);
    else counts.set(account, count);
    metrics?.openStreams.set(open.size);
  }

  return {
    /**
     * A signal that is aborted when the client leaves (`closed`) or the server stops. Throws a `Problem` where the
     * account has as many streams open as it may.
     */
    open(closed: AbortSignal, account: string): AbortSignal {
      if ((counts.get(account) ?? 0) >= perAccount) {
        throw new Problem('rate_limited', `You have ${perAccount} live streams open here; end one of them.`, {
          headers: { 'retry-after': '5' },
        });
      }
      const controller = new AbortController();
      if (stopped || closed.aborted) {
        controller.abort();
        return controller.signal;
      }
      open.set(controller, account);
      change(account, 1);
      const end = () => {
        if (open.delete(controller)) change(account, -1);
        controller.abort();
      };
      closed.addEventListener('abort', end, { once: true });
      return controller.signal;
    },
    /** One was ended as its client did not read. */
    dropped: () => metrics?.droppedStreams.inc(),
    endAll(): void {
      stopped = true;
      for (const controller of open.keys()) controller.abort();
    },
    count: () => open.size,
  };
}
export type Streams = ReturnType<typeof createStreams>;

/** How long connections that stay open have to send one more request, and be told to go elsewhere. */
const LINGER_MS = 300;

/**
 * `app.close()` then ends live streams, lets requests under way finish (at most `graceMs`), and answers
 * newcomers 503 meanwhile. Then it listens no more, and answers what still comes over connections that are open:
 * a request that was on its way to a connection cut at that moment would be lost, and its client could not know
 * whether it was done. Every answer says `Connection: close`, so busy clients are gone within one request;
 * connections that say nothing for `LINGER_MS` are cut.
 */
export function drainOnClose(app: App, streams: Streams, graceMs: number): void {
  const underWay = new Set<FastifyReply>();
  const connections = new Set<Socket>();
  let accepted = 0;
  let closing = false;
  let changed: (() => void) | undefined;

  app.server.on('connection', (socket: Socket) => {
    accepted++;
    connections.add(socket);
    socket.once('close', () => {
      connections.delete(socket);
      changed?.();
    });
  });

  app.addHook('onRequest', (request, reply, done) => {
    if (closing && request.routeOptions.config.probe !== 'live') {
      return done(new Problem('shutting_down', 'This server is stopping. Nothing was done.'));
    }
    underWay.add(reply);
    // Unlike onResponse, this also comes when the client has left.
    reply.raw.once('close', () => {
      underWay.delete(reply);
      changed?.();
    });
    done();
  });

  /** Resolves when it is so, or when the time is over. */
  async function until(condition: () => boolean, timeoutMs: number): Promise<void> {
    if (condition() || timeoutMs <= 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, timeoutMs);
      changed = () => {
        if (!condition()) return;
        clearTimeout(timer);
        resolve();
      };
    });
    changed = undefined;
  }

  app.addHook('preClose', async () => {
    const deadline = performance.now() + graceMs;
    closing = true;
    streams.endAll();
    // Fastify says it of the requests that come from now on.
    for (const reply of underWay) if (!reply.raw.headersSent) reply.header('connection', 'close');
    await until(() => underWay.size === 0, deadline - performance.now());
    // Who waits to be accepted is cut with the socket that listens: so after a round in which nobody came.
    for (let before = -1; before !== accepted && performance.now() < deadline; ) {
      before = accepted;
      await nextRound();
      await nextRound();
    }
    // Of http.Server's own `close` only what it inherits: the rest cuts the connections that are idle just now.
    if (app.server.listening) Server.prototype.close.call(app.server);
    await until(() => connections.size === 0, Math.min(LINGER_MS, deadline - performance.now()));
  });
}
