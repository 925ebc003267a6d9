// The operators' commands, as the launcher calls them.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { environmentWith } from './node.mjs';
import { ROOT } from './paths.mjs';
import { Refusal } from './say.mjs';

export const CLI = join(ROOT, 'src', 'cli', 'main.ts');

/**
 * Runs `npx millrace …` without the npx.
 * @param {import('./node.mjs').Toolchain} toolchain
 * @param {Record<string, string>} environment
 * @param {readonly string[]} args
 * @param {string} [input]
 * @returns {Promise<{ code: number | null, output: string }>}
 */
export function runCli(toolchain, environment, args, input = '') {
  return new Promise((resolve, reject) => {
    const env = environmentWith(toolchain, environment);
    const child = spawn(toolchain.node, [CLI, ...args], { cwd: ROOT, env });
    let output = '';
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
    child.stdin.on('error', () => {});
    child.stdin.end(input);
    child.once('error', reject);
    child.once('close', (code) => resolve({ code, output }));
  });
}

/**
 * @param {import('./node.mjs').Toolchain} toolchain
 * @param {Record<string, string>} environment
 */
export async function migrate(toolchain, environment) {
  const { code, output } = await runCli(toolchain, environment, ['migrate']);
  if (code !== 0)
    throw new Refusal(`The migration failed: ${output.trim().split('\n').slice(-3).join('\n')}`);
}
