import { connect, createServer, type Socket } from 'node:net';
import { onTestFinished } from 'vitest';

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

/** Stands between a client and a server on loopback, and breaks things. Closed when the test ends. */
export async function startProxy(target: string): Promise<Proxy> {
  const to = new URL(target);
  const pairs = new Set<[Socket, Socket]>();
  let lies: ((request: string) => boolean) | undefined;
  let refusing = false;
  let swallowing = false;
  let delayMs = 0;
  let onDropped: () => void = () => {};
  let onSwallowed: () => void = () => {};
  let swallowed = Promise.resolve();
  let dropped = new Promise<void>((resolve) => {
    onDropped = resolve;
  });

  const server = createServer((client) => {
    if (refusing) {
      client.destroy();
      return;
    }
    const upstream = connect(Number(to.port), to.hostname);
    const pair: [Socket, Socket] = [client, upstream];
    pairs.add(pair);
    const mute = swallowing;
    let broken = false;
    const end = () => {
      client.destroy();
      upstream.destroy();
      pairs.delete(pair);
    };
    client.on('data', (data) => {
      upstream.write(data);
      if (lies?.(data.toString('latin1'))) {
        lies = undefined;
        broken = true;
      }
    });
    upstream.on('data', (data) => {
      if (broken) {
        onDropped();
        end();
      } else if (mute || swallowing) {
        onSwallowed();
      } else if (delayMs > 0) setTimeout(() => client.writable && client.write(data), delayMs);
      else client.write(data);
    });
    for (const socket of pair) {
      socket.on('error', end);
      socket.on('close', end);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');
  const cut = () => {
    for (const [client, upstream] of pairs) {
      client.destroy();
      upstream.destroy();
    }
  };
  onTestFinished(() => {
    cut();
    server.close();
  });
  const url = new URL(target);
  url.port = String(address.port);
  return {
    url: url.href,
    dropReplyTo(matches) {
      lies = matches;
      dropped = new Promise((resolve) => {
        onDropped = resolve;
      });
    },
    dropped: () => dropped,
    cut,
    refuse() {
      refusing = true;
      cut();
    },
    accept() {
      refusing = false;
      swallowing = false;
    },
    swallowAnswers() {
      swallowing = true;
      swallowed = new Promise((resolve) => {
        onSwallowed = resolve;
      });
    },
    swallowed: () => swallowed,
    delay(ms) {
      delayMs = ms;
    },
  };
}
