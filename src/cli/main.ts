#!/usr/bin/env node
import { CommanderError } from 'commander';
import { ConfigError } from '../config.ts';
import { StoreUnavailableError } from '../eventstore/types.ts';
import { UsageError } from './exit.ts';
import { program } from './program.ts';

/**
 * Exit codes: 0 done, 1 refused or failed, 2 used wrongly, 3 something that it needs is away.
 */
try {
  await program().parseAsync();
} catch (error) {
  process.exitCode = exitCode(error);
}

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
  console.error(error instanceof Error ? error.message : String(error));
  return isUnreachable(error) ? 3 : 1;
}

function isUnreachable(error: unknown): boolean {
  return (
    error instanceof Error &&
    'code' in error &&
    ['ECONNREFUSED', 'ECONNRESET', 'ETIMEDOUT'].includes(String(error.code))
  );
}
