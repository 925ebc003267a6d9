import { type Command, CommanderError } from 'commander';
import { describe, expect, test } from 'vitest';
import { program } from '../../src/cli/program.ts';
import { sharedSetting } from '../support/setting.ts';

/** All commands that do something, with their paths. */
function commandsBelow(command: Command, path: readonly string[] = []): [string, Command][] {
  if (command.commands.length === 0) return [[path.join(' '), command]];
  return command.commands.flatMap((below) => commandsBelow(below, [...path, below.name()]));
}

type Parsed = { readonly code: string | undefined; readonly said: string };

/** How a command line is understood, without doing what it says. */
async function parsed(args: readonly string[]): Promise<Parsed> {
  let said = '';
  const all = program();
  const prepare = (command: Command) => {
    command.configureOutput({ writeErr: (text) => (said += text) });
    if (command.commands.length === 0) command.action(() => undefined);
    for (const below of command.commands) prepare(below);
  };
  prepare(all);
  try {
    await all.parseAsync([...args], { from: 'user' });
    return { code: undefined, said };
  } catch (error) {
    if (!(error instanceof CommanderError) || error.exitCode === 0) throw error;
    return { code: error.code, said };
  }
}

/** Enough for a command to be understood: its arguments, and what it can't do without. */
function whole(command: Command): { args: string[]; options: [string, string][] } {
  const id = 'job-00aaaaaaaaaaaaaaaaaaaa';
  const args = command.registeredArguments.filter(({ required }) => required).map(() => id);
  const options = command.options
    .filter(({ mandatory, defaultValue }) => mandatory && defaultValue === undefined)
    .map(({ long }): [string, string] => [
      long ?? '',
      long === '--from' || long === '--before' ? '2h' : 'x@y.z',
    ]);
  return { args, options };
}

describe.each(commandsBelow(program()))('millrace %s', (path, command) => {
  const { args, options } = whole(command);
  const given = [...path.split(' '), ...args, ...options.flat()];

  test('is understood as it should be used', async () => {
    expect(await parsed(given)).toEqual({ code: undefined, said: '' });
  });

  const wrong: [string, readonly string[], string][] = [
    ['an unknown option', [...given, '--unheard-of'], '--unheard-of'],
    ...args
      .slice(0, 1)
      .map((): [string, string[], string] => [
        'no argument',
        [...path.split(' '), ...options.flat()],
        command.registeredArguments[0]?.name() ?? '',
      ]),
    ...(command.registeredArguments.some(({ variadic }) => variadic)
      ? []
      : [
          [
            'one argument too many',
            [...given, ...command.registeredArguments.slice(args.length).map(() => 'x'), 'more'],
            'too many arguments',
          ] as [string, string[], string],
        ]),
    ...options.map(([name]): [string, string[], string] => [
      `no ${name}`,
      [...path.split(' '), ...args, ...options.filter(([other]) => other !== name).flat()],
      name,
    ]),
    ...command.options
      .filter(({ required }) => required)
      .map(({ long = '' }): [string, string[], string] => [
        `${long} without a value`,
        [...given, long ?? ''],
        long ?? '',
      ]),
    ...command.options
      .filter(({ parseArg }) => parseArg)
      .map(({ long }): [string, string[], string] => [
        `an empty ${long}`,
        [...given, `${long}`, ''],
        `${long}`,
      ]),
  ];
  test.each(wrong)('with %s says what is wrong', async (_name, line, mentioned) => {
    const { code, said } = await parsed(line);
    expect(code).toBeDefined();
    expect(said).toContain(mentioned);
  });
});

const why = ['--reason', 'a test', '--yes'];
const ids = Array.from({ length: 1001 }, (_, n) => `job-00${String(n).padStart(20, '0')}`);
const create = (email: string, name: string, ...more: string[]) => [
  'accounts',
  'create',
  '--email',
  email,
  '--name',
  name,
  ...why,
  ...more,
];

/** What can be understood, and makes no sense all the same; and what is said of it. */
const senseless: [readonly string[], string][] = [
  [[], 'Usage: millrace'],
  [['nonsense'], "unknown command 'nonsense'"],
  [['jobs', 'nonsense'], "unknown command 'nonsense'"],
  [['jobs'], 'Usage: millrace jobs'],
  [['jobs', 'cancel', 'job-00aaaaaaaaaaaaaaaaaaaa', '--yes'], '--reason is missing'],
  [['jobs', 'cancel', 'job-00aaaaaaaaaaaaaaaaaaaa', '--reason', 'a test'], 'add --yes'],
  [['jobs', 'cancel', 'job-00aaaaaaaaaaaaaaaaaaaa', '--yes', '--reason', 'x'.repeat(501)], 'at most 500'],
  [['jobs', 'ls', '--cursor', 'x'], '--cursor: is not a cursor of this list. Give the nextCursor'],
  [['events', 'read', '--cursor', 'x'], '--cursor: is not a cursor of this list. Give the nextCursor'],
  [['jobs', 'ls', '--from', '1h', '--to', '2h'], '--to is before --from'],
  [['ops', 'ls', '--from', '1h', '--to', '2h'], '--to is before --from'],
  [['events', 'read', '--from', '1h', '--to', '2h'], '--to is before --from'],
  [['dead-letters', 'ls', '--from', '1h', '--to', '2h'], '--to is before --from'],
  [['dead-letters', 'discard', '--from', '1h', '--to', '2h', ...why], '--to is before --from'],
  [['replay', '--group', 'notifier', '--from', '1h', '--to', '2h', '--dry-run'], '--to is before --from'],
  [['jobs', 'ls', '--from', '999999d'], 'from 1 to 9999'],
  [['verify', 'jobs', '--since', '99999999999d'], 'A time is written as'],
  [['verify', 'jobs', '--since', '5'], 'A time is written as'],
  [['verify', 'jobs', '--sample', '200%'], '1% or 0.01'],
  [['projections', 'verify', 'jobs', '--sample', '0'], '1% or 0.01'],
  [['verify', 'nothing'], 'There is no read model nothing: there are '],
  [create('ada', 'Ada'), 'give one as ada@example.com'],
  [create(`${'a'.repeat(3000)}@example.com`, 'Ada'), '1 to 254 characters'],
  [create('ada@example.com', ''), '1 to 200 characters'],
  [create('ada@example.com', ' '), '--name is empty'],
  [create('ada@example.com', 'A'.repeat(3000), '--json'), '1 to 200 characters'],
  [create('ada@example.com', 'Ada', '--password-stdin'), '12 to 128 characters'],
  [['accounts', 'erase', ...why], 'Name one account'],
  [['accounts', 'erase', 'ada', ...why], 'they begin with acc-'],
  [['accounts', 'erase', '--reapply', '--dry-run'], 'knows no --dry-run'],
  [['dead-letters', 'redrive', ...why], 'Say which'],
  [['dead-letters', 'redrive', 'x', ...why], 'x is no id of a job'],
  [['dead-letters', 'redrive', '--all', '--type', 'echo', ...why], '--all goes without'],
  [['dead-letters', 'redrive', '--fingerprint', 'f'.repeat(65), ...why], '1 to 64 characters'],
  [['dead-letters', 'redrive', '--ordering-key', '', ...why], '1 to 200 characters'],
  [['dead-letters', 'redrive', ...ids, ...why], 'At most 1000 ids'],
  [['groups', 'seek', 'notifier', '--dry-run'], 'Say where'],
  [['groups', 'seek', 'notifier', '--to', '0.1.1,0.1.2', '--dry-run'], 'one position of a partition'],
  [['groups', 'seek', 'notifier', '--to', '99.1.1', '--dry-run'], 'there are 4, from 0 to 3'],
  [['ledger', 'archive', '--before', '99.1.1', '--dry-run'], 'there are 4, from 0 to 3'],
  [['replay', '--group', 'notifier', '--from', '1h', '--side-effects', 'on', ...why], '--plan'],
  [['recover'], '--reason is missing'],
];

test('what makes no sense ends with 2, says why on standard error, and nothing on standard output', async () => {
  const { installation } = await sharedSetting();
  expect((await installation.cli(['migrate'])).code).toBe(0);
  const left = senseless.values();
  const next = async () => {
    for (const [line, said] of left) {
      const { code, stdout, stderr } = await installation.cli(line);
      expect.soft({ line, code, stdout }).toEqual({ line, code: 2, stdout: '' });
      expect.soft(stderr, line.join(' ')).toContain(said);
    }
  };
  await Promise.all([next(), next(), next()]);
}, 120_000);
