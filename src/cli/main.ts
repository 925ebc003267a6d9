#!/usr/bin/env node
import { CommanderError } from 'commander';
import { ConfigError } from '../config.ts';
import { StoreUnavailableError } from '../eventstore/types.ts';
import { problemOf } from '../http/failures.ts';
import { Problem } from '../http/problems.ts';
import { UsageError } from './exit.ts';
import { program } from './program.ts';

// Whoever reads what is printed may leave before its end: `| head`.
process.stdout.on('error', (error) => {
  if ('code' in error && error.code === 'EPIPE') process.exit(0);
  throw error;
});
process.stderr.on('error', (error) => {
  // What was to be said, nobody reads; how it ended, the exit code says.
  if (!('code' in error && error.code === 'EPIPE')) throw error;
});

try {
  await program().parseAsync();
} catch (error) {
  process.exitCode = exitCode(error);
}

/** `EXIT_CODES` says what they mean. */
function exitCode(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (error instanceof UsageError || error instanceof ConfigError) {
    console.error(error.message);
    return 2;
  }
  if (error instanceof StoreUnavailableError) {
    console.error(`Nothing was done: ${error.message}`);
    return 3;
  }
  if (error instanceof Problem && error.code === 'invalid_request') {
    // Of all that is read as the API reads it, cursors are what one can get wrong here.
    console.error(`--${error.message}. Give the nextCursor of one of its pages, or begin without.`);
    return 2;
  }
  const problem = problemOf(error);
  if (problem?.code === 'read_store_unavailable') {
    console.error(`${problem.message} ${error instanceof Error ? error.message : ''}`.trimEnd());
    return 3;
  }
  console.error(error instanceof Error ? error.message : String(error));
  return 1;
}
