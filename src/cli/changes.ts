import { randomBytes } from 'node:crypto';
import { userInfo } from 'node:os';
import { createInterface } from 'node:readline/promises';
import type { Command } from 'commander';
import type { CommandContext } from '../commands/handle.ts';
import type { Config } from '../config.ts';
import { UsageError } from './exit.ts';

export type ChangeOptions = {
  readonly reason?: string;
  readonly yes?: boolean;
  readonly dryRun?: boolean;
  readonly json?: boolean;
};

/** What an event's metadata takes. */
const LONGEST_REASON = 500;

/** The options that every command has which changes something. */
export function changeOptions(command: Command): Command {
  return command
    .option('--reason <text>', 'why: kept with what happens (required, save with --dry-run)')
    .option('--yes', 'do not ask; without a terminal it is needed')
    .option('--dry-run', 'say what would happen, and change nothing')
    .option('--json', 'print JSON');
}

/** Throws `UsageError` where no reason is given, or where nobody could be asked. */
export function checked(question: string, { reason, yes, dryRun }: ChangeOptions): void {
  if (reason !== undefined && (reason.length > LONGEST_REASON || !isText(reason))) {
    throw new UsageError(`--reason takes at most ${LONGEST_REASON} characters of text.`);
  }
  if (dryRun) return;
  if (!reason?.trim()) throw new UsageError('--reason is missing: say why, it is kept with what happens.');
  if (yes || (process.stdin.isTTY && process.stderr.isTTY)) return;
  throw new UsageError(`${question} Nobody can be asked without a terminal: add --yes.`);
}

/** Asks before anything is changed, unless it was said that nobody need be. Throws where the answer is no. */
export async function agreed(question: string, options: ChangeOptions): Promise<void> {
  checked(question, options);
  if (options.dryRun || options.yes) return;
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const answer = await terminal.question(`${question} [y/N] `).finally(() => terminal.close());
  if (!/^y(es)?$/i.test(answer.trim())) throw new Error('Nothing was done.');
}

/** Postgres takes neither. */
function isText(text: string): boolean {
  return text.isWellFormed() && !text.includes('\0');
}

/** Who acts, and why: the events say so. */
export function contextOf(config: Config, { reason }: ChangeOptions): CommandContext {
  return {
    actor: `system:cli:${operatingUser()}`,
    correlation: randomBytes(8).toString('hex'),
    durability: config.DURABILITY,
    ...(reason === undefined ? {} : { reason }),
  };
}

/** The person at the keyboard, as the operating system knows them: before sudo, if it was that. */
function operatingUser(): string {
  return (process.env.SUDO_USER || loginName()).replace(/[^A-Za-z0-9_.@-]/g, '-').slice(0, 64);
}

/** Not every user of a container has a name. */
function loginName(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid-${process.getuid?.() ?? 'unknown'}`;
  }
}

/** The domain said no. */
export class RefusedError extends Error {
  override readonly name = 'RefusedError';
  readonly code: string;
  constructor(code: string, detail: string) {
    super(detail);
    this.code = code;
  }
}
