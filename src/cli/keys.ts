import { Command } from 'commander';
import { listMasterKeys, type MasterKeyUse, rotatePersonKeys } from '../access/master-keys.ts';
import { masterKeysOf } from '../app/people.ts';
import { type ChangeOptions, changeOptions, checked, RefusedError } from './changes.ts';
import { examples } from './examples.ts';
import { withInstallation, withPostgres } from './installation.ts';
import { operate } from './operate.ts';
import { type Column, createTable } from './output/table.ts';

/** `millrace keys …` */
export function keysCommand(): Command {
  const keys = new Command('keys').description('The keys by which personal data is sealed.');
  examples(keys.command('ls'), [['millrace keys ls', 'whether an old master key may go']])
    .description('List the master keys, and how many keys of persons each of them wraps.')
    .option('--json', 'print JSON: {items}')
    .action(list);
  changeOptions(
    examples(keys.command('rotate'), [
      ['millrace keys rotate --dry-run', 'how many that would be'],
      ['millrace keys rotate --reason "the yearly rotation" --yes', ''],
    ]).description(
      'Wrap the keys of all persons by the first master key of MASTER_KEY. All processes must know it by then, and the older ones behind it. Cut off, it is safe, and goes on when it is called again.',
    ),
  ).action(rotate);
  return keys;
}

const MEANING: Record<MasterKeyUse['use'], string> = {
  wraps: 'wraps new ones',
  opens: 'opens old ones',
  missing: 'MISSING in MASTER_KEY',
};

const columns: readonly Column<MasterKeyUse>[] = [
  { title: 'MASTER KEY', of: ({ id }) => id },
  { title: 'PEOPLE', of: ({ keys }) => String(keys), right: true },
  {
    title: 'USE',
    of: ({ use, keys }) => (use === 'opens' && keys === 0 ? 'none: it may go' : MEANING[use]),
    colour: ({ use }) => (use === 'missing' ? 'red' : undefined),
  },
];

async function list({ json }: { readonly json?: boolean }): Promise<void> {
  const items = await withPostgres((db, config) => listMasterKeys(db, masterKeysOf(config)));
  if (json) console.log(JSON.stringify({ items }));
  else createTable(columns, process.stdout).draw(items);
}

async function rotate(options: ChangeOptions): Promise<void> {
  checked('Rotate the master key?', options);
  await withInstallation(async (side, { config }) => {
    const masters = masterKeysOf(config);
    const uses = await listMasterKeys(side.db, masters);
    const people = uses.reduce((sum, { keys, use }) => sum + (use === 'wraps' ? 0 : keys), 0);
    if (options.dryRun)
      return say(`The keys of ${people} people would be wrapped anew.`, { people }, options);
    await operate(side, config, options, {
      question: `Wrap the keys of ${people} people anew?`,
      operation: 'keys.rotate',
      target: masters[0].id,
      parameters: { people },
    });
    const onBatch = (done: number) => {
      if (!options.json && process.stderr.isTTY) process.stderr.write(`\r${done} of ${people}`);
    };
    const { done, damaged } = await rotatePersonKeys(side.db, masters, { onBatch });
    if (!options.json && process.stderr.isTTY) process.stderr.write('\n');
    const answer = { people: done, ...(damaged.length > 0 ? { damaged } : {}) };
    say(`The keys of ${done} people are wrapped by ${masters[0].id} now.`, answer, options);
    if (damaged.length > 0) {
      throw new RefusedError(
        'keys_damaged',
        `The keys of these accounts do not open, and stay as they are: ${damaged.join(', ')}. Their rows of person_keys were damaged: restore those, and rotate again.`,
      );
    }
  });
}

function say(text: string, answer: object, { json, dryRun = false }: ChangeOptions): void {
  console.log(json ? JSON.stringify({ dryRun, ...answer }) : text);
}
