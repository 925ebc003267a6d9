import type { Command, Option } from 'commander';
import { examplesOf } from './examples.ts';
import { EXIT_CODES } from './exit.ts';

/** The page on the command line, from the program itself. */
export function cliPage(program: Command): string {
  const codes = EXIT_CODES.map(([code, meaning]) => `| ${code} | ${meaning} |`);
  return [
    '# The command line',
    '`npx millrace <command>` in a checkout. It works on the Redis and Postgres that the environment names, as an operator who sees every account’s jobs; without any, on the installation that `npm start` made. What changes something asks before it does (`--yes`), says what it would do (`--dry-run`), and wants a `--reason`, which is kept with the events, beside who did it: `system:cli:<user of the operating system>`. `--json` is for programs; colours are for terminals, and not where `NO_COLOR` is set.',
    `| exit code | |\n|---|---|\n${codes.join('\n')}`,
    ...leaves(program).map((command) => section(command)),
  ].join('\n\n');
}

function leaves(command: Command): Command[] {
  const below = command.commands.filter((each) => each.name() !== 'help');
  return below.length === 0 ? [command] : below.flatMap(leaves);
}

function section(command: Command): string {
  const options = command.options.filter(({ hidden }) => !hidden);
  const lines = examplesOf(command).map(([line, purpose]) => (purpose ? `${line}   # ${purpose}` : line));
  return [
    `## ${nameOf(command)}`,
    command.description(),
    `\`${nameOf(command)} ${command.usage()}\``,
    ...(options.length > 0 ? [`| option | |\n|---|---|\n${options.map(row).join('\n')}`] : []),
    ...(lines.length > 0 ? [`\`\`\`sh\n${lines.join('\n')}\n\`\`\``] : []),
  ].join('\n\n');
}

function nameOf(command: Command): string {
  return command.parent ? `${nameOf(command.parent)} ${command.name()}` : command.name();
}

function row({ flags, description, argChoices, defaultValue, mandatory }: Option): string {
  const more = [
    ...(mandatory ? ['required'] : []),
    ...(argChoices ? [`one of ${argChoices.map((choice) => `\`${choice}\``).join(', ')}`] : []),
    ...(defaultValue === undefined ? [] : [`default ${defaultValue}`]),
  ];
  const text = more.length > 0 ? `${description} (${more.join('; ')})` : description;
  return `| \`${flags}\` | ${text.replaceAll('|', '\\|')} |`;
}
