// The development tools that the commands run, one after the other.
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { environmentWith } from './node.mjs';
import { ROOT } from './paths.mjs';
import { reporter } from './say.mjs';

/** @typedef {{ name: string, module: string, args: readonly string[] }} Tool `module`: its script under node_modules */

/** @type {Tool} */
export const types = { name: 'types', module: 'typescript/bin/tsc', args: ['--noEmit'] };
/** @type {Tool} */
export const lint = { name: 'lint and format', module: '@biomejs/biome/bin/biome', args: ['check', '.'] };

/**
 * @param {readonly string[]} args
 * @returns {Tool}
 */
export function tests(args) {
  return { name: 'tests', module: 'vitest/vitest.mjs', args: ['run', ...args] };
}

/**
 * @param {import('./node.mjs').Toolchain} toolchain
 * @param {readonly Tool[]} tools
 * @returns {Promise<number>} the exit code of the first that fails; the later ones do not run then
 */
export async function runTools(toolchain, tools) {
  const { step, say } = reporter();
  // Ctrl-C reaches the tools as well; they end, and so do we.
  process.on('SIGINT', () => {});
  for (const { name, module, args } of tools) {
    const script = join(ROOT, 'node_modules', module);
    if (!existsSync(script)) {
      say(`${module} is not installed: run npm ci`);
      return 1;
    }
    /** @param {number} code */
    const line = (code) => (code === 0 ? name : `${name}: failed`);
    const code = await step(line, () => run(toolchain, [script, ...args]));
    if (code !== 0) return code;
  }
  return 0;
}

/**
 * @param {import('./node.mjs').Toolchain} toolchain
 * @param {readonly string[]} argv
 * @returns {Promise<number>}
 */
function run(toolchain, argv) {
  return new Promise((resolve, reject) => {
    const child = spawn(toolchain.node, argv, {
      cwd: ROOT,
      stdio: 'inherit',
      env: environmentWith(toolchain),
    });
    /** @param {NodeJS.Signals} signal */
    const pass = (signal) => void child.kill(signal);
    process.once('SIGTERM', pass);
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      process.off('SIGTERM', pass);
      resolve(code ?? (signal === 'SIGINT' ? 130 : 1));
    });
  });
}
