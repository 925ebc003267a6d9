import type { Command } from 'commander';

/** A command line, and what it is good for. */
export type Example = readonly [line: string, purpose: string];

const known = new WeakMap<Command, readonly Example[]>();

/** Gives a command its examples: for `--help`, and for the reference. */
export function examples(command: Command, lines: readonly Example[]): Command {
  known.set(command, lines);
  const text = lines.map(([line, purpose]) => `  ${line}${purpose ? `\n      ${purpose}` : ''}`);
  return command.addHelpText('after', `\nExamples:\n${text.join('\n')}`);
}

export function examplesOf(command: Command): readonly Example[] {
  return known.get(command) ?? [];
}
