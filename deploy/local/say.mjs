// One line per step, with the time that it took.

/**
 * @typedef {object} Reporter
 * @property {(line: string) => void} say
 * @property {<T>(name: string | ((value: T) => string), work: () => Promise<T>) => Promise<T>} step says the name when it is done
 */

/** A reader that has gone (a closed pipe) is no reason to stop. */
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

/**
 * @param {NodeJS.WritableStream} [output]
 * @returns {Reporter}
 */
export function reporter(output = process.stdout) {
  /** @param {string} line */
  const say = (line) => void output.write(`${line}\n`);
  return {
    say,
    async step(name, work) {
      const started = performance.now();
      const value = await work();
      const took = ((performance.now() - started) / 1000).toFixed(1);
      say(`  ${took.padStart(5)} s  ${typeof name === 'function' ? name(value) : name}`);
      return value;
    },
  };
}

/**
 * A failure that the reader can act on: shown as its one line, without a stack.
 */
export class Refusal extends Error {
  /**
   * @param {string} message
   * @param {number} [exitCode] 2: the command line was wrong; 1: anything else
   */
  constructor(message, exitCode = 1) {
    super(message);
    this.exitCode = exitCode;
  }
}

/**
 * Runs a command's main function; what it throws becomes one line and an exit code.
 * @param {() => Promise<number>} main
 */
export async function runCommand(main) {
  try {
    process.exitCode = await main();
  } catch (error) {
    if (error instanceof Refusal) {
      process.stderr.write(`${error.message}\n`);
      process.exitCode = error.exitCode;
    } else {
      process.stderr.write(
        `${error instanceof Error ? (process.env.DEBUG ? error.stack : error.message) : error}\n`,
      );
      process.exitCode = 1;
    }
  }
}
