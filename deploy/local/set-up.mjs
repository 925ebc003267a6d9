import { findOrInstallNode } from './node.mjs';
import { installPackages } from './packages.mjs';
import { findOrInstallRedis } from './redis-install.mjs';
import { reporter } from './say.mjs';

/**
 * Everything that a bare checkout lacks.
 * @param {object} options
 * @param {boolean} options.redis whether a Redis of our own is going to be started
 * @param {boolean} [options.quiet] says only what takes long, and that on stderr
 * @returns {Promise<import('./node.mjs').Toolchain>}
 */
export async function setUp({ redis, quiet = false }) {
  const { say, step } = quiet ? quietly() : reporter();
  /** @param {string} line */
  const note = (line) => say(`           ${line}`);
  const toolchain = await step(
    ({ version, installed }) => `Node ${version}${installed ? ', installed into .millrace/node' : ''}`,
    () => findOrInstallNode(note),
  );
  await step(
    (installed) => (installed ? 'dependencies installed' : 'dependencies are those of the lock file'),
    () => installPackages(toolchain, note),
  );
  if (redis) {
    await step(
      (command) => (command === 'docker' ? 'Redis by Docker' : `Redis: ${command}`),
      () => findOrInstallRedis(note),
    );
  }
  return toolchain;
}

/** @returns {import('./say.mjs').Reporter} */
function quietly() {
  return { say: reporter(process.stderr).say, step: (_name, work) => work() };
}
