import { createServer } from 'node:net';

/** Below those that systems give to outgoing connections: one of these may be taken by any client in the next moment. */
const LOWEST = 10_000;
const PORTS = 22_000;
const TRIES = 50;
/** A port is given once: whoever asked first may not listen on it yet. */
const given = new Set();

/**
 * A port that nobody listens on at this moment. Another process may take it before you do:
 * whoever starts a server on it has to report that failure.
 * @param {string} [host]
 * @returns {Promise<number>}
 */
export async function freePort(host = '127.0.0.1') {
  for (let tries = 0; tries < TRIES; tries++) {
    const chosen = LOWEST + Math.floor(Math.random() * PORTS);
    if (given.has(chosen) || !(await portIsFree(chosen, host))) continue;
    given.add(chosen);
    return chosen;
  }
  const port = await listenOnce(0, host);
  if (port === undefined) throw new Error(`no free port on ${host}`);
  return port;
}

/**
 * @param {number} port
 * @param {string} [host]
 * @returns {Promise<boolean>} false as well where the port may not be taken (below 1024) or the host is not ours
 */
export async function portIsFree(port, host = '127.0.0.1') {
  return (await listenOnce(port, host)) !== undefined;
}

/**
 * @param {number} port
 * @param {string} host
 * @returns {Promise<number | undefined>}
 */
function listenOnce(port, host) {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen({ port, host, exclusive: true }, () => {
      const address = server.address();
      const taken = typeof address === 'object' && address !== null ? address.port : undefined;
      server.close(() => resolve(taken));
    });
  });
}
