// A server as a child process that Ctrl-C does not reach: it must live until the roles have drained.
import { readFileSync } from 'node:fs';
import { spawnTethered } from './lifeline.mjs';
import { childrenOf, commandLine, isAlive, waitUntilGone } from './processes.mjs';

/**
 * @typedef {object} Server
 * @property {string} url
 * @property {number} port
 * @property {number} pid
 * @property {string} dir
 * @property {string} log the file that it writes its log to
 * @property {Promise<string>} exited settles when the process is gone, however it came to that, and says how
 * @property {() => Promise<void>} stop the orderly end, data saved; waits until it is gone
 * @property {() => Promise<void>} kill SIGKILL; waits until it and its children are gone
 */

/** @typedef {{ pid: number, exited: Promise<string>, hasExited: () => boolean, stop: () => Promise<void>, kill: () => Promise<void> }} ServerProcess */

const STOP_TIMEOUT_MS = 30_000;

/**
 * @param {object} options
 * @param {string} options.command absolute path
 * @param {readonly string[]} options.args
 * @param {'TERM' | 'INT'} options.stopSignal
 * @param {string} options.log
 * @param {string} options.cwd
 * @param {{ uid: number, gid: number } | undefined} [options.user]
 * @returns {ServerProcess}
 */
export function spawnServer({ stopSignal, ...options }) {
  const child = spawnTethered({
    ...options,
    lastSignal: stopSignal,
    env: serverEnvironment(),
    detached: true,
  });
  child.keepUsAlive(false); // a script that forgets its servers ends all the same, and they with it
  return {
    pid: child.pid,
    exited: child.exited,
    hasExited: child.hasExited,
    async stop() {
      child.keepUsAlive(true);
      child.signal(`SIG${stopSignal}`);
      child.signal('SIGCONT'); // one that a test has stopped would never see the signal
      const late = setTimeout(() => child.signal('SIGKILL'), STOP_TIMEOUT_MS);
      await child.exited;
      clearTimeout(late);
    },
    async kill() {
      const children = child.hasExited() ? [] : childrenOf(child.pid);
      child.keepUsAlive(true);
      child.signal('SIGKILL');
      await child.exited;
      await waitUntilGone(children, 10_000);
    },
  };
}

/**
 * Stops what an earlier start left running, if that process really is the server of this folder.
 * @param {number | undefined} pid
 * @param {(commandLine: string) => boolean} isThatServer pids are given out again
 * @param {NodeJS.Signals} signal
 * @param {number} [timeoutMs] then SIGKILL
 */
export async function stopLeftover(pid, isThatServer, signal, timeoutMs = STOP_TIMEOUT_MS) {
  if (pid === undefined || pid <= 1 || !isAlive(pid) || !isThatServer(commandLine(pid))) return;
  const family = [pid, ...childrenOf(pid)];
  process.kill(pid, signal);
  if (await waitUntilGone(family, timeoutMs)) return;
  process.kill(pid, 'SIGKILL');
  if (!(await waitUntilGone(family, 10_000))) throw new Error(`process ${pid} does not end`);
}

/**
 * @param {string} log
 * @param {number} [lines]
 * @returns {string} the last lines that hold something
 */
export function lastLines(log, lines = 1) {
  try {
    return readFileSync(log, 'utf8').trimEnd().split('\n').slice(-lines).join('\n').trim();
  } catch {
    return '';
  }
}

/** A server gets no secrets of ours, and no PG* or REDIS* variable that would bend it. */
function serverEnvironment() {
  /** @type {Record<string, string>} */
  const environment = { LC_ALL: 'C' };
  for (const name of ['PATH', 'HOME', 'TZ', 'TMPDIR', 'DOCKER_HOST', 'DOCKER_CONTEXT', 'DOCKER_CONFIG']) {
    const value = process.env[name];
    if (value !== undefined) environment[name] = value;
  }
  return environment;
}
