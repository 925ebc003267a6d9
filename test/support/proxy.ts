import { onTestFinished } from 'vitest';
import { openProxy } from './tcp-proxy.ts';

export type Proxy = {
  /** The server's URL, by way of the proxy. */
  readonly url: string;
  /**
   * The next request that `matches` reaches the server, and its connection breaks before any answer comes back:
   * the reply is lost, the effect is not.
   */
  dropReplyTo(matches: (request: string) => boolean): void;
  /** Resolves when a reply was dropped. */
  dropped(): Promise<void>;
  /** Breaks every connection. */
  cut(): void;
  /** Refuses new connections and breaks the open ones, until `accept`. */
  refuse(): void;
  accept(): void;
  /** Requests still arrive, answers are swallowed and the connections stay open: a half-open network. */
  swallowAnswers(): void;
  /** Resolves when an answer was swallowed. */
  swallowed(): Promise<void>;
  /** Answers come so many milliseconds later. */
  delay(ms: number): void;
};

/** A proxy before a server on loopback, closed when the test ends. */
export async function startProxy(target: string): Promise<Proxy> {
  const to = new URL(target);
  const proxy = await openProxy(() => ({ host: to.hostname, port: Number(to.port) }));
  onTestFinished(() => proxy.close());
  let dropped = Promise.withResolvers<void>();
  let swallowed = Promise.withResolvers<void>();
  proxy.onDropped(() => dropped.resolve());
  proxy.onSwallowed(() => swallowed.resolve());
  const url = new URL(target);
  url.port = String(proxy.port);
  return {
    url: url.href,
    dropReplyTo(matches) {
      dropped = Promise.withResolvers();
      proxy.dropReplyTo(matches);
    },
    dropped: () => dropped.promise,
    cut: proxy.cut,
    refuse: proxy.refuse,
    accept: proxy.accept,
    swallowAnswers() {
      swallowed = Promise.withResolvers();
      proxy.swallow('answers');
    },
    swallowed: () => swallowed.promise,
    delay: proxy.delay,
  };
}
