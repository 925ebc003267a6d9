import { Problem } from './problems.ts';
import type { App } from './types.ts';

/** Live streams, which would otherwise keep a stopping server from ending. */
export function createStreams() {
  const open = new Set<AbortController>();
  let stopped = false;
  return {
    /** A signal that is aborted when the client leaves (`closed`) or the server stops. */
    open(closed: AbortSignal): AbortSignal {
      const controller = new AbortController();
      const end = () => {
        open.delete(controller);
        controller.abort();
      };
      if (stopped || closed.aborted) controller.abort();
      else {
        open.add(controller);
        closed.addEventListener('abort', end, { once: true });
      }
      return controller.signal;
    },
    endAll(): void {
      stopped = true;
      for (const controller of open) controller.abort();
      open.clear();
    },
    count: () => open.size,
  };
}
export type Streams = ReturnType<typeof createStreams>;

/**
 * `app.close()` then ends live streams, lets requests under way finish (at most `graceMs`), and answers
 * newcomers 503 meanwhile; what is still open after that is cut, idle keep-alive connections with it.
 */
export function drainOnClose(app: App, streams: Streams, graceMs: number): void {
  let underWay = 0;
  let closing = false;
  let drained: (() => void) | undefined;

  app.addHook('onRequest', (request, reply, done) => {
    if (closing && request.routeOptions.config.probe !== 'live') {
      return done(new Problem('shutting_down', 'This server is stopping. Nothing was done.'));
    }
    underWay++;
    // Unlike onResponse, this also comes when the client has left.
    reply.raw.once('close', () => {
      underWay--;
      if (underWay === 0) drained?.();
    });
    done();
  });

  app.addHook('preClose', async () => {
    closing = true;
    streams.endAll();
    if (underWay === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, graceMs);
      drained = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  });
}
