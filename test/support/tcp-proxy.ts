import { connect, createServer, type Socket } from 'node:net';

/** Stands between clients and a server on loopback, and breaks things. */
export type TcpProxy = {
  readonly port: number;
  /**
   * The next request that `matches` reaches the server, and its connection breaks before any answer comes back:
   * the reply is lost, the effect is not. Undefined: no more of that.
   */
  dropReplyTo(matches: ((request: string) => boolean) | undefined): void;
  /** Breaks every connection. */
  cut(): void;
  /** Refuses new connections and breaks the open ones, until `accept`. */
  refuse(): void;
  /** New connections are as they should be again; those that a fault has mutilated stay mute until they end. */
  accept(): void;
  /**
   * What comes from one side is swallowed and the connections stay open: a half-open network. A connection that has
   * lost bytes never carries a later one: no network does that.
   */
  swallow(side: 'answers' | 'requests'): void;
  /** Answers come so many milliseconds later, in order. */
  delay(ms: number): void;
  onDropped(listener: () => void): void;
  onSwallowed(listener: () => void): void;
  close(): Promise<void>;
};

type Pair = { readonly client: Socket; readonly upstream: Socket; mute: 'answers' | 'requests' | undefined };

/** @param target where connections lead; asked for each one, as a server may come back elsewhere */
export async function openProxy(target: () => { host: string; port: number }): Promise<TcpProxy> {
  const pairs = new Set<Pair>();
  let lies: ((request: string) => boolean) | undefined;
  let refusing = false;
  let swallowing: Pair['mute'];
  let delayMs = 0;
  let onDropped = () => {};
  let onSwallowed = () => {};

  const server = createServer((client) => {
    if (refusing) {
      client.destroy();
      return;
    }
    const { host, port } = target();
    const upstream = connect(port, host);
    client.setNoDelay();
    upstream.setNoDelay();
    const pair: Pair = { client, upstream, mute: undefined };
    pairs.add(pair);
    let broken = false;
    const later = inOrder(client);
    const end = () => {
      client.destroy();
      upstream.destroy();
      pairs.delete(pair);
    };
    const isSwallowed = (side: 'answers' | 'requests') => {
      if (swallowing === side) pair.mute = side;
      if (pair.mute === side) onSwallowed();
      return pair.mute === side;
    };
    client.on('data', (data) => {
      if (isSwallowed('requests')) return;
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
      } else if (!isSwallowed('answers')) later(data, delayMs);
    });
    for (const socket of [client, upstream]) {
      socket.on('error', end);
      socket.on('close', end);
    }
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('the proxy has no port');

  const cut = () => {
    for (const { client, upstream } of pairs) {
      client.destroy();
      upstream.destroy();
    }
  };
  return {
    port: address.port,
    dropReplyTo(matches) {
      lies = matches;
    },
    cut,
    refuse() {
      refusing = true;
      cut();
    },
    accept() {
      refusing = false;
      swallowing = undefined;
    },
    swallow(side) {
      swallowing = side;
    },
    delay(ms) {
      delayMs = ms;
    },
    onDropped(listener) {
      onDropped = listener;
    },
    onSwallowed(listener) {
      onSwallowed = listener;
    },
    close() {
      cut();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}

/** Writes to a socket after a while, and never out of order: the delay may have become shorter. */
function inOrder(socket: Socket): (data: Buffer, delayMs: number) => void {
  const queue: { data: Buffer; due: number }[] = [];
  const pump = () => {
    for (let head = queue[0]; head; head = queue[0]) {
      const left = head.due - performance.now();
      if (left > 0) {
        setTimeout(pump, left);
        return;
      }
      if (socket.writable) socket.write(head.data);
      queue.shift();
    }
  };
  return (data, delayMs) => {
    queue.push({ data, due: performance.now() + delayMs });
    if (queue.length === 1) pump();
  };
}
