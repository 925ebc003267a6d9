// The dependencies, exactly as the lock file has them.
import { spawn } from 'node:child_process';
import { lstatSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { withLock } from './lock-file.mjs';
import { environmentWith } from './node.mjs';
import { HOME, ROOT } from './paths.mjs';
import { Refusal } from './say.mjs';

/** @typedef {{ version?: string, optional?: boolean, devOptional?: boolean, peer?: boolean }} LockedPackage */

/**
 * @param {import('./node.mjs').Toolchain} toolchain
 * @param {(line: string) => void} say
 * @returns {Promise<boolean>} whether there was something to install
 */
export async function installPackages(toolchain, say) {
  if (packagesMatch(ROOT)) return false;
  const lock = join(HOME, 'install-packages.lock');
  return withLock(
    lock,
    async () => {
      if (packagesMatch(ROOT)) return false; // the one that we waited for has done it
      refuseLink(join(ROOT, 'node_modules'));
      say('installing the dependencies from package-lock.json');
      await npmCi(toolchain);
      return true;
    },
    () => say('waiting for another set-up on this checkout'),
  );
}

/**
 * npm writes node_modules/.package-lock.json as its last act, so an install that was interrupted does not match.
 * Optional packages are left out: those of other systems are never there.
 * @param {string} root
 * @returns {boolean}
 */
export function packagesMatch(root) {
  const wanted = lockedPackages(join(root, 'package-lock.json'));
  const installed = lockedPackages(join(root, 'node_modules', '.package-lock.json'));
  return Object.entries(wanted).every(
    ([path, { version, optional, devOptional }]) =>
      path === '' || optional || devOptional || installed[path]?.version === version,
  );
}

/**
 * @param {string} file
 * @returns {Record<string, LockedPackage>}
 */
function lockedPackages(file) {
  try {
    return JSON.parse(readFileSync(file, 'utf8')).packages ?? {};
  } catch {
    return {};
  }
}

/**
 * npm ci empties node_modules first, also what a link leads to: another checkout's, in use there.
 * @param {string} folder
 */
export function refuseLink(folder) {
  if (!lstatSync(folder, { throwIfNoEntry: false })?.isSymbolicLink()) return;
  throw new Refusal(
    `${folder} is a link, and what it leads to is not what package-lock.json says: run npm ci there, or remove the link.`,
  );
}

/** @param {import('./node.mjs').Toolchain} toolchain */
function npmCi(toolchain) {
  // Tests and types need the development packages, and our own Postgres an optional one, whatever NODE_ENV says.
  const flags = ['--include=dev', '--include=optional', '--no-audit', '--no-fund', '--loglevel=error'];
  return new Promise((resolve, reject) => {
    const child = spawn(toolchain.node, [toolchain.npm, 'ci', ...flags], {
      cwd: ROOT,
      env: environmentWith(toolchain),
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    child.once('error', reject);
    child.once('exit', (code) =>
      code === 0 ? resolve(undefined) : reject(new Refusal(`npm ci failed (exit code ${code})`)),
    );
  });
}
