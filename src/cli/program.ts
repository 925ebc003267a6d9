import { Command } from 'commander';
import { accountsCommand } from './accounts.ts';
import { EXIT_CODES } from './exit.ts';
import { jobsCommand } from './jobs/commands.ts';
import { migrate } from './migrate.ts';
import { showConfiguration, writeReference } from './reference.ts';

/** All of `millrace`: each command's options, help and examples. */
export function program(): Command {
  const millrace = new Command('millrace')
    .description('Operate a Millrace installation.')
    .exitOverride()
    .showHelpAfterError()
    .addHelpText(
      'after',
      `
Where the environment names no servers, the installation that \`npm start\` made is used.
Exit codes: ${EXIT_CODES.map(([code, meaning]) => `${code} ${meaning.replaceAll('`', '')}`).join('; ')}.`,
    );

  for (const command of [jobsCommand(), accountsCommand()]) {
    millrace.addCommand(inheriting(command, millrace));
  }
  millrace
    .command('migrate')
    .description('Bring the database to the newest schema. Several may run at once; one does the work.')
    .option('--json', 'print JSON')
    .action(migrate);
  millrace
    .command('config')
    .description('List the environment variables: meaning, default.')
    .option('--json', 'print JSON')
    .action(showConfiguration);
  millrace
    .command('reference')
    .description('Write the generated pages of the reference.')
    .argument('[folder]', 'where to', 'docs/reference')
    .action((folder: string) => writeReference(folder, millrace));
  return millrace;
}

/** What `.command()` does and `.addCommand()` does not: settings reach the commands below. */
function inheriting(command: Command, from: Command): Command {
  command.copyInheritedSettings(from);
  for (const below of command.commands) inheriting(below, from);
  return command;
}
