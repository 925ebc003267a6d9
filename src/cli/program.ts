import { Command } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { accountsCommand } from './accounts.ts';
import { deadLettersCommand } from './dead-letters/commands.ts';
import { doctorCommand } from './doctor/doctor.ts';
import { eraseCommand, erasuresCommand } from './erasures.ts';
import { eventsCommand, streamsCommand } from './events/commands.ts';
import { examples } from './examples.ts';
import { EXIT_CODES } from './exit.ts';
import { groupsCommand } from './groups/commands.ts';
import { jobsCommand } from './jobs/commands.ts';
import { keysCommand } from './keys.ts';
import { ledgerCommand } from './ledger.ts';
import { migrate } from './migrate.ts';
import { operationsCommand } from './operations.ts';
import { projectionsCommand } from './projections/commands.ts';
import { queuesCommand } from './queues.ts';
import { recoverCommand } from './recover.ts';
import { showConfiguration, writeReference } from './reference.ts';
import { replayCommand } from './replay.ts';
import { schedulesCommand } from './schedules.ts';
import { statusCommand } from './standing/commands.ts';
import { narrowingOptions, verify } from './verify.ts';

/** All of `millrace`: each command's options, help and examples. */
export function program(): Command {
  const millrace = new Command('millrace')
    .description('Operate a Millrace installation.')
    .version(packageJson.version, '-V, --version', 'print the version')
    .exitOverride()
    .showHelpAfterError()
    .addHelpText(
      'after',
      `
Where the environment names no servers, the installation that \`npm start\` made is used.
Exit codes: ${EXIT_CODES.map(([code, meaning]) => `${code} ${meaning.replaceAll('`', '')}`).join('; ')}.`,
    );

  const accounts = accountsCommand();
  eraseCommand(accounts.command('erase'));
  erasuresCommand(accounts.command('erasures'));
  for (const command of [
    statusCommand(),
    jobsCommand(),
    deadLettersCommand(),
    schedulesCommand(),
    queuesCommand(),
    groupsCommand(),
    eventsCommand(),
    streamsCommand(),
    ledgerCommand(),
    projectionsCommand(),
    accounts,
    keysCommand(),
    operationsCommand(),
  ]) {
    millrace.addCommand(inheriting(command, millrace));
  }
  millrace
    .command('migrate')
    .description('Bring the database to the newest schema. Several may run at once; one does the work.')
    .option('--json', 'print JSON')
    .action(migrate);
  const verifying = examples(millrace.command('verify'), [
    ['millrace verify', ''],
    ['millrace verify jobs --since 24h', 'what the last day changed'],
    ['millrace verify jobs --sample 1% --json', 'a part of it, for a program'],
  ])
    .description(
      'Compute ledger and read models anew and compare: what is not as it must be, row by row. Changes nothing, and may run beside a live system. Ends with 1 if anything is wrong.',
    )
    .argument('[what]', 'ledger, or the name of a read model; everything, where nothing is named');
  narrowingOptions(verifying).option('--json', 'print JSON').action(verify);
  replayCommand(millrace.command('replay'));
  doctorCommand(millrace.command('doctor'));
  recoverCommand(millrace.command('recover'));
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
