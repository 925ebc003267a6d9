import { Command } from 'commander';
import { createAccount } from './accounts.ts';
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
Exit codes: 0 done, 1 refused or failed, 2 used wrongly, 3 something that it needs is away.`,
    );

  millrace
    .command('migrate')
    .description('Bring the database to the newest schema. Several may run at once; one does the work.')
    .option('--json', 'print JSON')
    .action(migrate);

  const accounts = millrace.command('accounts').description('People who may log in.');
  accounts
    .command('create')
    .description('Register an account, of any role.')
    .requiredOption('--email <email>', 'its email')
    .requiredOption('--name <name>', 'its name')
    .option('--role <role>', 'user or operator', 'user')
    .option('--password-stdin', 'read the password from standard input; otherwise one is made and printed')
    .option('--json', 'print JSON')
    .addHelpText(
      'after',
      '\nExample:\n  millrace accounts create --email ada@example.com --name Ada --role operator',
    )
    .action(createAccount);

  millrace
    .command('config')
    .description('List the environment variables: meaning, default.')
    .option('--json', 'print JSON')
    .action(showConfiguration);
  millrace
    .command('reference')
    .description('Write the generated pages of the reference.')
    .argument('[folder]', 'where to', 'docs/reference')
    .action(writeReference);
  return millrace;
}
