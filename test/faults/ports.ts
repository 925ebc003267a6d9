import { randomInt } from 'node:crypto';
import { portIsFree } from '../../deploy/local/servers.mjs';

/**
 * A port for a server that is to come back on it. Below those that systems give to outgoing connections (32768 and
 * above on Linux, 49152 elsewhere): one of them could take it while the server is down.
 */
export async function lastingPort(): Promise<number> {
  for (;;) {
    const port = randomInt(12_000, 32_000);
    if (await portIsFree(port)) return port;
  }
}
