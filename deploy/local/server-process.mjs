// A server as a child process that Ctrl-C does not reach, and that does not outlive us.
import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
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

// The subshell holds the read end of a pipe whose write end is ours. When we end without a farewell
// (SIGKILL, a crash) it reads end-of-file and stops the server. Forked twice, so that the server never
// sees it as a child of its own: Postgres takes the end of an unknown child for a crash.
const LIFELINE = `signal=$1; shift
( ( read -r line <&3 || kill -s "$signal" $$ ) </dev/null >/dev/null 2>&1 & )
exec "$@" 3<&-`;

/**
 * @param {object} options
 * @param {string} options.command absolute path
 * @param {readonly string[]} options.args
 * @param {'TERM' | 'INT'} options.stopSignal
 * @param {string} options.log
 * @param {string} options.cwd
 * @param {{ uid: number, gid: number } | undefined} [options.user]
 * @returns {{ pid: number, exited: Promise<string>, hasExited: () => boolean, stop: () => Promise<void>, kill: () => Promise<void> }}
 */
export function spawnServer({ command, args, stopSignal, log, cwd, user }) {
  const output = openSync(log, 'a', 0o600);
  const child = spawn('/bin/sh', ['-c', LIFELINE, 'sh', stopSignal, command, ...args], {
    cwd,
    // A session of its own: the terminal's Ctrl-C must not stop a server before the roles have drained.
    detached: true,
    stdio: ['ignore', output, output, 'pipe'],
    env: serverEnvironment(),
    ...user,
  });
  closeSync(output);
  const lifeline = /** @type {import('node:stream').Writable & { unref?: () => void }} */ (child.stdio[3]);
  lifeline.on('error', () => {});
  lifeline.unref?.();
  child.unref();

  let gone = false;
  /** @type {Promise<string>} */
  const exited = new Promise((resolve) => {
    /** @param {string} how */
    const end = (how) => {
      gone = true;
      lifeline.end('\n'); // the farewell: its pid may be another's soon
      resolve(how);
    };
    child.once('error', (error) => end(error.message));
    child.once('exit', (code, signal) => end(signal ? `killed by ${signal}` : `exit code ${code}`));
  });

  const pid = child.pid ?? -1;
  /** @param {NodeJS.Signals} signal */
  const send = (signal) => {
    if (!gone && pid > 0) child.kill(signal);
  };
  return {
    pid,
    exited,
    hasExited: () => gone,
    async stop() {
      send(`SIG${stopSignal}`);
      send('SIGCONT'); // a stopped process (a fault test's) would never see the signal
      child.ref();
      const late = setTimeout(() => send('SIGKILL'), 30_000);
      late.unref();
      await exited;
      clearTimeout(late);
    },
    async kill() {
      const children = gone ? [] : childrenOf(pid);
      send('SIGKILL');
      child.ref();
      await exited;
      await waitUntilGone(children, 10_000);
    },
  };
}

/**
 * Stops what an earlier start left running, if that process really is the server of this folder.
 * @param {number | undefined} pid
 * @param {(commandLine: string) => boolean} isThatServer pids are given out again
 * @param {NodeJS.Signals} signal
 */
export async function stopLeftover(pid, isThatServer, signal) {
  if (pid === undefined || pid <= 1 || !isAlive(pid) || !isThatServer(commandLine(pid))) return;
  const family = [pid, ...childrenOf(pid)];
  process.kill(pid, signal);
  if (await waitUntilGone(family, 30_000)) return;
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
  for (const name of ['PATH', 'HOME', 'TZ', 'TMPDIR']) {
    const value = process.env[name];
    if (value !== undefined) environment[name] = value;
  }
  return environment;
}
