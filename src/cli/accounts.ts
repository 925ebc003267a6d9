import { randomBytes } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { Command, Option } from 'commander';
import { registerAccount } from '../commands/accounts.ts';
import { emailStream } from '../commands/email.ts';
import { emailFold } from '../domain/accounts.ts';
import { agreed, type ChangeOptions, changeOptions, contextOf, RefusedError } from './changes.ts';
import { examples } from './examples.ts';
import { UsageError } from './exit.ts';
import { type WriteSide, withInstallation } from './installation.ts';
import { readText } from './output/text.ts';

const EMAIL = /^[^\s@]+@[^\s@]+$/;

type Options = ChangeOptions & {
  readonly email: string;
  readonly name: string;
  readonly role: 'user' | 'operator';
  readonly passwordStdin?: boolean;
};

/** `millrace accounts …` */
export function accountsCommand(): Command {
  const accounts = new Command('accounts').description('People who may log in.');
  const create = examples(accounts.command('create'), [
    [
      'millrace accounts create --email ada@example.com --name Ada --role operator --reason "the first operator" --yes',
      '',
    ],
  ])
    .description('Register an account, of any role.')
    .requiredOption('--email <email>', 'its email', readText(254))
    .requiredOption('--name <name>', 'its name', readText(200))
    .addOption(new Option('--role <role>', 'what it may do').choices(['user', 'operator']).default('user'))
    .option('--password-stdin', 'read the password from standard input; otherwise one is made and printed');
  changeOptions(create).action(createAccount);
  return accounts;
}

/** `millrace accounts create`: the way to a first operator, as nobody can become one over HTTP. */
async function createAccount(options: Options): Promise<void> {
  const { email, name, role, passwordStdin, dryRun, json } = options;
  if (!EMAIL.test(email))
    throw new UsageError(`--email ${email} is not an email: give one as ada@example.com.`);
  if (!/\S/.test(name)) throw new UsageError('--name is empty: say what the person is called.');
  const password = passwordStdin
    ? (await text(process.stdin)).trimEnd()
    : randomBytes(15).toString('base64url');
  if (password.length < 12 || password.length > 128)
    throw new UsageError('The password must have 12 to 128 characters.');

  await agreed(`Register ${email} as ${role}?`, options);

  await withInstallation(async ({ commands }, { config }) => {
    if (dryRun) return foresee(commands, options);
    const context = contextOf(config, options);
    const result = await registerAccount(commands, context, { email, name, role, password });
    if (result.kind !== 'done') {
      throw new Error(result.kind === 'refused' ? result.refusal.detail : 'This was done before.');
    }
    const shown = passwordStdin ? {} : { password };
    if (json) console.log(JSON.stringify({ ...result.body, position: result.position, ...shown }));
    else
      console.log(
        `Account ${result.body.id} (${role}) for ${email}.${passwordStdin ? '' : ` Password: ${password}`}`,
      );
  });
}

async function foresee(
  { store, hmac }: WriteSide['commands'],
  { email, role, json }: Options,
): Promise<void> {
  const { state } = await store.load(emailStream({ hmac, store }, email), emailFold);
  if (state.phase !== 'free') throw new RefusedError('email_taken', `${email} belongs to an account.`);
  if (json) console.log(JSON.stringify({ dryRun: true, email, role }));
  else console.log(`${email} would be registered as ${role}.`);
}
