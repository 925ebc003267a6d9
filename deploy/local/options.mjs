import { parseArgs } from 'node:util';
import { Refusal } from './say.mjs';

/**
 * @typedef {{ type: 'string' | 'boolean', value?: string, help: string }} Option
 * `value` names what a string option takes.
 */

/**
 * Reads a command line; an unknown option is refused with exit code 2.
 * @param {readonly string[]} args
 * @param {Record<string, Option>} options
 * @returns {Record<string, string | boolean | undefined>}
 */
export function readOptions(args, options) {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: { ...options, help: { type: 'boolean' } },
      strict: true,
    });
    return /** @type {Record<string, string | boolean | undefined>} */ (values);
  } catch (error) {
    const [reason = ''] = /** @type {Error} */ (error).message.split('. ');
    throw new Refusal(
      `${reason}. Known: ${[...Object.keys(options), 'help'].map((name) => `--${name}`).join(', ')}`,
      2,
    );
  }
}

/**
 * @param {string} usage
 * @param {Record<string, Option>} options
 * @returns {string}
 */
export function helpText(usage, options) {
  /** @type {Record<string, Option>} */
  const all = { ...options, help: { type: 'boolean', help: 'show this' } };
  const rows = Object.entries(all).map(
    ([name, option]) =>
      /** @type {const} */ ([`--${name}${option.value ? ` ${option.value}` : ''}`, option.help]),
  );
  const width = Math.max(...rows.map(([name]) => name.length)) + 2;
  return [usage, '', ...rows.map(([name, help]) => `  ${name.padEnd(width)}${help}`)].join('\n');
}
