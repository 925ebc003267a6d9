import type { Command } from 'commander';
import { reapplyErasures } from '../app/erasing.ts';
import { eraseAccount } from '../commands/erasures.ts';
import type { Config } from '../config.ts';
import { type Account, accountFold } from '../domain/accounts.ts';
import { type AccountId, parseStreamId } from '../domain/ids.ts';
import { type ErasureRow, listErasures } from '../projections/erasures.ts';
import { type ChangeOptions, changeOptions, checked, RefusedError } from './changes.ts';
import { examples } from './examples.ts';
import { UsageError } from './exit.ts';
import { type WriteSide, withInstallation, withReadModels } from './installation.ts';
import { operate } from './operate.ts';
import { type Column, createTable } from './output/table.ts';
import { shortTime } from './output/time.ts';

type EraseOptions = ChangeOptions & { readonly reapply?: boolean };

/** `millrace accounts erase` */
export function eraseCommand(command: Command): void {
  changeOptions(
    examples(command, [
      ['millrace accounts erase acc-07… --dry-run', 'whether there is such an account'],
      ['millrace accounts erase acc-07… --reason "asked for by letter of 3 May" --yes', ''],
      ['millrace accounts erase --reapply --reason "Postgres was restored" --yes', ''],
    ])
      .description(
        'Erase a person: close the account, end its sessions, jobs and schedules, remove its files, its password and the key without which nothing that was written of the person opens any more. For good: nobody can undo it. The command closes the account; a job does the rest, and goes on after any crash.',
      )
      .argument('[id]', 'the account')
      .option(
        '--reapply',
        'erase again all who were erased: what a restored database or blob store brought back',
      ),
  ).action(erase);
}

async function erase(id: string | undefined, options: EraseOptions): Promise<void> {
  if ((options.reapply === true) === (id !== undefined)) {
    throw new UsageError('Name one account, or give --reapply and none.');
  }
  const accountId = id === undefined ? undefined : idOf(id);
  if (options.reapply && options.dryRun) {
    throw new UsageError('--reapply knows no --dry-run: what it removes was erased before.');
  }
  checked('Erase for good?', options);
  await withInstallation((side, { config }) =>
    accountId === undefined ? reapply(side, config, options) : eraseOne(side, config, accountId, options),
  );
}

function idOf(text: string): AccountId {
  const id: AccountId | undefined = parseStreamId(text, 'acc');
  if (!id) throw new UsageError(`${text} is no id of an account: they begin with acc-.`);
  return id;
}

async function eraseOne(
  side: WriteSide,
  config: Config,
  accountId: AccountId,
  options: EraseOptions,
): Promise<void> {
  const { state } = await side.store.load(accountId, accountFold);
  if (state.phase === 'none') throw new RefusedError('not_found', 'There is no such account.');
  if (options.dryRun || state.phase !== 'active') return say(accountId, state, options);
  const context = await operate(side, config, options, {
    question: `Erase ${accountId} for good?`,
    operation: 'account.erase',
    target: accountId,
    parameters: {},
  });
  const result = await eraseAccount(side.commands, context, { accountId });
  if (result.kind !== 'done') throw new Error('The account could not be erased.');
  say(accountId, (await side.store.load(accountId, accountFold)).state, options);
}

function say(id: AccountId, state: Account, { json }: ChangeOptions): void {
  if (json) console.log(JSON.stringify({ id, ...state }));
  else if (state.phase === 'active') console.log(`${id} (${state.role}) would be erased.`);
  else if (state.phase === 'erasing') console.log(`${id} is being erased: millrace jobs show ${state.jobId}`);
  else if (state.phase === 'erased') console.log(`${id} was erased, completely since ${state.completedAt}.`);
}

async function reapply(side: WriteSide, config: Config, options: EraseOptions): Promise<void> {
  await operate(side, config, options, {
    question: 'Erase again who was erased?',
    operation: 'account.erase',
    target: 'all who were erased',
    parameters: { reapply: true },
  });
  const { people, files } = await reapplyErasures(config, side.db);
  if (options.json) console.log(JSON.stringify({ people, files }));
  else console.log(`Removed keys or passwords of ${people} people, and ${files} files.`);
}

const columns: readonly Column<ErasureRow>[] = [
  { title: 'ACCOUNT', of: ({ id }) => id },
  { title: 'ERASED (UTC)', of: ({ erased_at }) => shortTime(erased_at.toISOString()) },
  {
    title: 'COMPLETED (UTC)',
    of: ({ completed_at }) => (completed_at ? shortTime(completed_at.toISOString()) : 'not yet'),
  },
  { title: 'JOB', of: ({ job_id }) => job_id },
  { title: 'REASON', of: ({ reason }) => reason ?? '', cut: true },
];

/** `millrace accounts erasures` */
export function erasuresCommand(command: Command): void {
  examples(command, [['millrace accounts erasures', '']])
    .description('List the accounts that were erased, the newest first, and whether that is complete.')
    .option('--json', 'print JSON: {items}')
    .action(async ({ json }: { readonly json?: boolean }) => {
      const rows = await withReadModels((db) => listErasures(db, { limit: json ? 10_000 : 200 }));
      if (!json) return createTable(columns, process.stdout).draw(rows);
      const items = rows.map(({ job_id, erased_at, completed_at, partition: _, seq: __, ...row }) => ({
        ...row,
        jobId: job_id,
        erasedAt: erased_at.toISOString(),
        ...(completed_at ? { completedAt: completed_at.toISOString() } : {}),
      }));
      console.log(JSON.stringify({ items }));
    });
}
