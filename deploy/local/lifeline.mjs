// A child process that does not outlive us, even when we are killed with SIGKILL.
import { spawn } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';

// The subshell holds the read end of a pipe whose write end is ours. When we end without a farewell it reads
// end-of-file and signals the child. Forked twice, so that the child never sees it as a child of its own:
// Postgres takes the end of an unknown child for a crash. As a background job it ignores Ctrl-C.
const SCRIPT = `signal=$1; shift
( ( read -r line <&3 || kill -s "$signal" $$ ) </dev/null >/dev/null 2>&1 & )
exec "$@" 3<&-`;

/**
 * @typedef {object} Tethered
 * @property {number} pid
 * @property {Promise<string>} exited settles when it is gone, and says how
 * @property {() => boolean} hasExited
 * @property {(signal: NodeJS.Signals) => void} signal does nothing once it is gone
 * @property {(yes: boolean) => void} keepUsAlive whether we stay for as long as it runs (default: yes)
 */

/**
 * @param {object} options
 * @param {string} options.command absolute path
 * @param {readonly string[]} options.args
 * @param {'TERM' | 'INT'} options.lastSignal what it gets when we are gone
 * @param {string} options.log receives its output, appended
 * @param {string} options.cwd
 * @param {NodeJS.ProcessEnv} options.env
 * @param {boolean} options.detached true: out of reach of the terminal's Ctrl-C
 * @param {{ uid: number, gid: number } | undefined} [options.user]
 * @returns {Tethered}
 */
export function spawnTethered({ command, args, lastSignal, log, cwd, env, detached, user }) {
  const output = openSync(log, 'a', 0o600);
  const child = spawn('/bin/sh', ['-c', SCRIPT, 'sh', lastSignal, command, ...args], {
    cwd,
    env,
    detached,
    stdio: ['ignore', output, output, 'pipe'],
    ...user,
  });
  closeSync(output);
  const lifeline = /** @type {import('node:net').Socket} */ (child.stdio[3]);
  lifeline.on('error', () => {});
  lifeline.unref();

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
  return {
    pid: child.pid ?? -1,
    exited,
    hasExited: () => gone,
    signal: (signal) => void (gone || child.kill(signal)),
    keepUsAlive: (yes) => (yes ? child.ref() : child.unref()),
  };
}
