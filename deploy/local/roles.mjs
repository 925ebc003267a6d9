// The processes that Millrace consists of, one for each role.
import { existsSync, mkdirSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { spawnTethered } from './lifeline.mjs';
import { environmentWith } from './node.mjs';
import { files, ROOT } from './paths.mjs';
import { Refusal } from './say.mjs';
import { lastLines, stopLeftover } from './server-process.mjs';

export const ROLES = /** @type {const} */ (['api', 'projectors', 'workers']);
/** @typedef {typeof ROLES[number]} RoleName */

/**
 * @typedef {object} Role
 * @property {RoleName} name
 * @property {number} pid
 * @property {string} managementUrl
 * @property {string} log
 * @property {Promise<string>} exited says how
 * @property {() => boolean} hasExited
 * @property {(signal: NodeJS.Signals) => void} signal SIGTERM asks it to drain and leave
 */

const MAIN = join(ROOT, 'src', 'main.ts');
const READY_TIMEOUT_MS = 60_000;

/**
 * @param {object} options
 * @param {RoleName} options.name
 * @param {import('./node.mjs').Toolchain} options.toolchain
 * @param {number} options.managementPort
 * @param {Record<string, string>} options.environment
 * @returns {Role}
 */
export function startRole({ name, toolchain, managementPort, environment }) {
  const log = join(files.logs, `${name}.log`);
  mkdirSync(files.logs, { recursive: true });
  if (existsSync(log)) renameSync(log, `${log}.1`);
  const { pid, exited, hasExited, signal } = spawnTethered({
    command: toolchain.node,
    args: [MAIN, '--roles', name],
    // Without us a role would work on beside the next start's.
    lastSignal: 'TERM',
    log,
    cwd: ROOT,
    env: environmentWith(toolchain, { ...environment, MANAGEMENT_PORT: String(managementPort) }),
    detached: false,
  });
  return { name, pid, log, exited, hasExited, signal, managementUrl: `http://127.0.0.1:${managementPort}` };
}

/**
 * Ends what a killed start has left, so that nothing works beside us under the same names.
 * @param {number} pid
 */
export function stopLeftoverRole(pid) {
  // Not for long: the servers that it would drain into have gone with the start that began it.
  return stopLeftover(pid, (line) => line.includes(MAIN), 'SIGTERM', 3000);
}

/**
 * @param {Role} role
 * @param {AbortSignal} signal
 */
export async function waitUntilReady(role, signal) {
  const deadline = Date.now() + READY_TIMEOUT_MS;
  let said = 'no answer';
  while (Date.now() < deadline) {
    signal.throwIfAborted();
    if (role.hasExited()) throw new Refusal(await lastWords(role));
    try {
      const response = await fetch(`${role.managementUrl}/readyz`, { signal: AbortSignal.timeout(5000) });
      said = `${response.status} ${(await response.text()).slice(0, 200)}`;
      if (response.status === 200) return;
    } catch {}
    await sleep(25);
  }
  throw new Refusal(
    `${role.name} is not ready after ${READY_TIMEOUT_MS / 1000} s (${said}); its log: ${role.log}`,
  );
}

/**
 * @param {Role} role one that has ended
 * @returns {Promise<string>} one line: how, and why by its own log
 */
export async function lastWords(role) {
  const how = await role.exited;
  const why = reasonIn(lastLines(role.log, 50).split('\n'));
  return `${role.name} ended (${how})${why ? `: ${why}` : ''}; its log: ${role.log}`;
}

/**
 * The line that says why: the last error that was logged, or that Node printed, else the last line of all.
 * @param {readonly string[]} lines of pino's JSON, mixed with what came past it
 * @returns {string}
 */
export function reasonIn(lines) {
  const found = [...lines].reverse().map(messageOf);
  const told = found.find(({ isError }) => isError) ?? found.find(({ text }) => text !== '');
  return (told?.text ?? '').slice(0, 300);
}

/** @param {string} line */
function messageOf(line) {
  try {
    const entry = JSON.parse(line);
    const text = [entry.msg, entry.err?.message ?? entry.error?.message].filter(Boolean).join(': ');
    return { text, isError: entry.level >= 50 || entry.level === 'error' || entry.level === 'fatal' };
  } catch {
    return { text: line.trim(), isError: /^(\w*Error\b|Uncaught)/.test(line.trim()) };
  }
}
