import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { commandLine, isAlive } from './processes.mjs';

/**
 * Does `work` while no other process on this machine does the same. A holder that died is passed over.
 * @template T
 * @param {string} file
 * @param {() => Promise<T>} work
 * @param {() => void} [onWait] called once when another holds it
 * @returns {Promise<T>}
 */
export async function withLock(file, work, onWait = () => {}) {
  let waited = false;
  while (!tryLock(file)) {
    if (!waited) onWait();
    waited = true;
    await sleep(200);
  }
  try {
    return await work();
  } finally {
    unlock(file);
  }
}

/** @param {string} file */
export function unlock(file) {
  rmSync(file, { force: true });
}

/**
 * @param {string} file
 * @returns {boolean} false: a living process holds it
 */
export function tryLock(file) {
  return take(file) || (removeIfAbandoned(file) && take(file));
}

/** @param {string} file */
function take(file) {
  mkdirSync(dirname(file), { recursive: true });
  try {
    writeFileSync(file, JSON.stringify({ pid: process.pid, command: commandLine(process.pid) }), {
      flag: 'wx',
    });
    return true;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
    return false;
  }
}

/** @param {string} file */
function removeIfAbandoned(file) {
  try {
    const { pid, command } = JSON.parse(readFileSync(file, 'utf8'));
    // Pids are given out again: the same pid with another command line is another process.
    if (isAlive(pid) && commandLine(pid) === command) return false;
    rmSync(file, { force: true });
    return true;
  } catch {
    return false; // just being written, or just removed
  }
}
