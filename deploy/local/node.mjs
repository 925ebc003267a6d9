// A Node that runs TypeScript as it is (24 or newer), and npm 11 beside it: this one, one on the PATH,
// or one that is installed into a folder of ours.
import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { delimiter, dirname, join } from 'node:path';
import { findExecutable } from './executables.mjs';
import { withLock } from './lock-file.mjs';
import { files, HOME } from './paths.mjs';
import { Refusal } from './say.mjs';

const NODE_MAJOR = 24;
const NPM_MAJOR = 11;

/** @typedef {{ node: string, npm: string, version: string, installed: boolean }} Toolchain `npm` is its npm-cli.js */

/**
 * @param {(line: string) => void} say
 * @returns {Promise<Toolchain>}
 */
export async function findOrInstallNode(say) {
  const found = findToolchain();
  if (found) return found;
  const lock = join(HOME, 'install-node.lock');
  return withLock(
    lock,
    () => install(say),
    () => say('waiting for another set-up on this checkout'),
  );
}

/** @returns {Toolchain | undefined} */
export function findToolchain() {
  for (const node of candidates()) {
    const version = versionOf(node);
    const npm = version === undefined ? undefined : npmBeside(node);
    if (version !== undefined && npm !== undefined) return { node, npm, version, installed: false };
  }
  return undefined;
}

/**
 * The environment for children, in which `node` and `npm` are the toolchain's.
 * @param {Toolchain} toolchain
 * @param {NodeJS.ProcessEnv} [base]
 * @returns {NodeJS.ProcessEnv}
 */
export function environmentWith(toolchain, base = process.env) {
  const outer = Object.entries(base).filter(
    // What an outer npm says of itself and of its own Node is wrong for the inner one.
    ([name]) =>
      !/^npm_(lifecycle|package|execpath|node_execpath|command)/.test(name) &&
      !/^npm_config_(prefix|local_prefix|global_prefix|npm_version|user_agent|node_gyp|init_module)$/.test(
        name,
      ),
  );
  const path = [dirname(toolchain.node), base.PATH].filter(Boolean).join(delimiter);
  // Types are stripped and code is compiled once, not at each start: a third of a role's starting time.
  const cache = { NODE_COMPILE_CACHE: base.NODE_COMPILE_CACHE ?? files.compileCache };
  return { ...Object.fromEntries(outer), ...cache, PATH: path, NODE: toolchain.node };
}

/**
 * Runs a script under that Node with our own input and output, and passes signals on.
 * @param {Toolchain} toolchain
 * @param {readonly string[]} argv the script and its arguments
 * @param {NodeJS.ProcessEnv} environment
 * @param {string} [cwd]
 * @returns {Promise<number>} its exit code
 */
export function withNode24(toolchain, argv, environment, cwd = process.cwd()) {
  return new Promise((resolve, reject) => {
    const env = environmentWith(toolchain, environment);
    const child = spawn(toolchain.node, argv, { stdio: 'inherit', env, cwd });
    // The terminal sends Ctrl-C to both: we stay to hand on the exit code. A signal to us alone goes on to it.
    process.on('SIGINT', () => {});
    for (const signal of /** @type {const} */ (['SIGTERM', 'SIGHUP']))
      process.on(signal, () => child.kill(signal));
    child.once('error', reject);
    child.once('exit', (code, signal) => resolve(code ?? 128 + (signal === 'SIGINT' ? 2 : 15)));
  });
}

function candidates() {
  const own = join(files.node, 'node_modules', 'node', 'bin', 'node');
  const onPath = (process.env.PATH ?? '').split(delimiter).map((folder) => findExecutable(['node'], folder));
  return [...new Set([process.execPath, own, ...onPath])].flatMap((path) =>
    path && existsSync(path) ? [path] : [],
  );
}

/**
 * @param {string} node
 * @returns {string | undefined} its version if it is new enough
 */
function versionOf(node) {
  try {
    const version =
      node === process.execPath
        ? process.version
        : execFileSync(node, ['--version'], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
    return Number(version.match(/^v(\d+)\./)?.[1]) >= NODE_MAJOR ? version.slice(1) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * @param {string} node
 * @returns {string | undefined} npm-cli.js of an npm that is new enough: an older one reads the lock file otherwise
 */
function npmBeside(node) {
  const real = realpathSync(node);
  const places = [
    join(dirname(real), '..', 'lib', 'node_modules', 'npm'), // as Node's own archives have it
    join(dirname(real), '..', '..', 'npm'), // as the npm package `node` has it
    join(files.node, 'node_modules', 'npm'),
    join(dirname(real), 'node_modules', 'npm'), // Windows
  ];
  const place = places.find((folder) => {
    try {
      const { version } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
      return Number.parseInt(version, 10) >= NPM_MAJOR;
    } catch {
      return false;
    }
  });
  return place && join(place, 'bin', 'npm-cli.js');
}

/**
 * @param {(line: string) => void} say
 * @returns {Promise<Toolchain>}
 */
async function install(say) {
  const meanwhile = findToolchain();
  if (meanwhile) return meanwhile;
  say(
    `this is Node ${process.version.slice(1)}; installing Node ${NODE_MAJOR} and npm ${NPM_MAJOR} into .millrace/node`,
  );
  mkdirSync(files.node, { recursive: true });
  // Its own package.json, or npm would take the checkout's; `node` fetches its binary in an install script.
  const manifest = { private: true, allowScripts: { node: true } };
  writeFileSync(join(files.node, 'package.json'), JSON.stringify(manifest));
  const flags = ['--no-save', '--no-audit', '--no-fund', '--ignore-scripts=false', '--loglevel=error'];
  const { command, prefix } = runningNpm();
  const packages = [`node@${NODE_MAJOR}`, `npm@${NPM_MAJOR}`];
  await new Promise((resolve, reject) => {
    const child = spawn(command, [...prefix, 'install', ...flags, ...packages], {
      cwd: files.node,
      env: { ...process.env, npm_config_prefix: undefined, npm_config_local_prefix: undefined },
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    child.once('error', reject);
    child.once('exit', (code) =>
      code === 0
        ? resolve(undefined)
        : reject(
            new Refusal(
              `Node ${NODE_MAJOR} could not be installed (npm's exit code ${code}): install it yourself`,
            ),
          ),
    );
  });
  const found = findToolchain();
  if (!found)
    throw new Refusal(`npm has installed no usable Node ${NODE_MAJOR}: install it yourself, see .nvmrc`);
  return { ...found, installed: true };
}

/** The npm that runs us, else the one on the PATH. */
function runningNpm() {
  const script = process.env.npm_execpath;
  if (script?.endsWith('.js') && existsSync(script)) return { command: process.execPath, prefix: [script] };
  const npm = findExecutable(['npm']);
  if (!npm)
    throw new Refusal(`Node ${NODE_MAJOR} or newer is needed, and there is no npm here to install it with`);
  return { command: npm, prefix: [] };
}
