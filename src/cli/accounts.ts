import { randomBytes } from 'node:crypto';
import { text } from 'node:stream/consumers';
import { openWriteSide } from '../app/write-side.ts';
import { registerAccount } from '../commands/accounts.ts';
import { readConfig } from '../config.ts';
import { createLogger } from '../telemetry/logging.ts';
import { createMetrics } from '../telemetry/metrics.ts';
import { UsageError } from './exit.ts';

type Options = { email: string; name: string; role: string; passwordStdin?: boolean; json?: boolean };

/** `millrace accounts create`: the way to a first operator, as nobody can become one over HTTP. */
export async function createAccount(options: Options): Promise<void> {
  const { role } = options;
  if (role !== 'user' && role !== 'operator')
    throw new UsageError(`--role must be user or operator, not ${role}.`);
  if (!/^[^\s@]+@[^\s@]+$/.test(options.email))
    throw new UsageError(`--email ${options.email} is not an email.`);
  const password = options.passwordStdin
    ? (await text(process.stdin)).trimEnd()
    : randomBytes(15).toString('base64url');
  if (password.length < 12 || password.length > 128)
    throw new UsageError('The password must have 12 to 128 characters.');

  const config = readConfig(process.env);
  const logger = createLogger({ level: 'error', role: 'cli', instanceId: config.INSTANCE_ID });
  const side = await openWriteSide({ config, logger, metrics: createMetrics({ node: false }) }, 'cli');
  try {
    const result = await registerAccount(
      side.commands,
      { actor: 'system:cli', correlation: randomBytes(8).toString('hex'), durability: 'memory' },
      { email: options.email, name: options.name, role, password },
    );
    if (result.kind !== 'done') {
      throw new Error(result.kind === 'refused' ? result.refusal.detail : 'This was done before.');
    }
    const shown = options.passwordStdin ? {} : { password };
    if (options.json) console.log(JSON.stringify({ ...result.body, position: result.position, ...shown }));
    else
      console.log(
        `Account ${result.body.id} (${role}) for ${options.email}.${options.passwordStdin ? '' : ` Password: ${password}`}`,
      );
  } finally {
    await side.close();
  }
}
