import { mkdirSync } from 'node:fs';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findExecutable } from './executables.mjs';
import { freePort, portIsFree } from './free-port.mjs';
import { numberIn, readRecord, writeRecord } from './records.mjs';
import { redisInDocker } from './redis-docker.mjs';
import { lastLines, spawnServer, stopLeftover } from './server-process.mjs';

/** @typedef {import('./server-process.mjs').Server} Server */

const START_TIMEOUT_MS = 60_000;

/**
 * Starts `redis-server` or `valkey-server` from PATH, else Redis in Docker, on 127.0.0.1, with an append-only
 * file and no eviction.
 * Started again in the same folder it finds its data. What an earlier start left running there is stopped first.
 * @param {object} options
 * @param {string} options.dir made when missing
 * @param {number} [options.port] default: the folder's last one if it is free, else any
 * @param {'always' | 'everysec' | 'no'} [options.appendfsync]
 * @param {'yes' | 'no'} [options.appendonly]
 * @param {readonly string[]} [options.extra] further arguments, such as `['--maxmemory', '64mb']`
 * @returns {Promise<Server>}
 */
export async function startRedis({ dir, port, appendfsync = 'everysec', appendonly = 'yes', extra = [] }) {
  const folder = resolve(dir);
  mkdirSync(folder, { recursive: true });
  const record = join(folder, 'server.json');
  const last = readRecord(record);
  const log = join(folder, 'redis.log');
  const lastPort = numberIn(last, 'port');
  await stopLeftover(
    numberIn(last, 'pid'),
    // Its title is "redis-server 127.0.0.1:6379": it rewrites its arguments.
    (line) => /(redis|valkey)-server/.test(line) && line.includes(`:${lastPort}`),
    'SIGTERM',
  );

  const chosen =
    port ?? (lastPort !== undefined && (await portIsFree(lastPort)) ? lastPort : await freePort());
  const settings = [
    ['--appendonly', appendonly, '--appendfsync', appendfsync, '--save', ''],
    ['--maxmemory-policy', 'noeviction', '--loglevel', 'notice', ...extra],
  ].flat();
  const local = findExecutable(['redis-server', 'valkey-server']);
  const docker = local === undefined ? redisInDocker({ folder, port: chosen, settings }) : undefined;
  docker?.remove();
  const own = ['--port', String(chosen), '--bind', '127.0.0.1', '--dir', folder, '--daemonize', 'no'];
  const server = spawnServer({
    command: local ?? docker?.command ?? '',
    args: docker?.args ?? [...own, ...settings],
    stopSignal: 'TERM',
    log,
    cwd: folder,
  });
  writeRecord(record, { pid: server.pid, port: chosen });

  const deadline = Date.now() + START_TIMEOUT_MS;
  while (!(await answersPing(chosen, docker ? 1 : server.pid))) {
    if (server.hasExited()) {
      throw new Error(`Redis did not start (${await server.exited}): ${lastLines(log, 3)}`);
    }
    if (Date.now() > deadline) {
      await server.kill();
      throw new Error(`Redis is not ready after ${START_TIMEOUT_MS / 1000} s: ${lastLines(log)}`);
    }
    await sleep(10);
  }
  const { pid, exited, stop } = server;
  const kill = async () => {
    docker?.remove();
    await server.kill();
  };
  return { url: `redis://127.0.0.1:${chosen}`, port: chosen, pid, dir: folder, log, exited, stop, kill };
}

/**
 * @param {number} port
 * @param {number} pid another server may hold the port, and answer while ours is about to fail
 * @returns {Promise<boolean>} false while it still loads its data
 */
function answersPing(port, pid) {
  return new Promise((settle) => {
    const socket = connect({ port, host: '127.0.0.1' });
    let answer = '';
    /** @param {boolean} ready */
    const done = (ready) => {
      socket.destroy();
      settle(ready);
    };
    socket.setTimeout(1000, () => done(false));
    socket.once('error', () => done(false));
    socket.once('close', () => done(false));
    socket.once('connect', () => socket.write('PING\r\nINFO server\r\n'));
    socket.on('data', (data) => {
      answer += data.toString();
      if (answer.startsWith('-')) done(false);
      const found = answer.match(/process_id:(\d+)\r\n/);
      if (found) done(answer.startsWith('+PONG') && Number(found[1]) === pid);
    });
  });
}
