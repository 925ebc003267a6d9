import { expect, test } from 'vitest';
import { Refusal } from '../../deploy/local/say.mjs';
import { readStartOptions, START_HELP } from '../../deploy/local/start-options.mjs';

function refusal(args: string[], environment: Record<string, string> = {}): Refusal {
  try {
    readStartOptions(args, environment);
  } catch (error) {
    if (error instanceof Refusal) return error;
    throw error;
  }
  throw new Error(`${args.join(' ')} was accepted`);
}

test('with nothing said, every role starts and the API listens on loopback, port 8080', () => {
  expect(readStartOptions([], {})).toMatchObject({
    host: '127.0.0.1',
    port: 8080,
    roles: ['api', 'projectors', 'workers'],
    fresh: false,
    shutdownSeconds: 20,
  });
});

test('an option wins over the environment, and the environment over the default', () => {
  expect(readStartOptions([], { PORT: '9000', HOST: '0.0.0.0' })).toMatchObject({
    port: 9000,
    host: '0.0.0.0',
  });
  expect(readStartOptions(['--port', '9001', '--host=::1'], { PORT: '9000' })).toMatchObject({
    port: 9001,
    host: '::1',
  });
});

test('an empty variable is an unset one', () => {
  expect(readStartOptions([], { PORT: '', REDIS_URL: '' })).toMatchObject({
    port: 8080,
    redisUrl: undefined,
  });
});

test('roles are chosen by a list', () => {
  expect(readStartOptions(['--roles', 'workers, api'], {}).roles).toEqual(['api', 'workers']);
});

test.each([
  [['--prot', '1'], /Unknown option '--prot'\. Known: --port, --host, --roles, --fresh, --help/],
  [['extra'], /Unexpected argument 'extra'/],
  [['--port', 'many'], /the port is a number from 0 to 65535, not "many"/],
  [['--port', '70000'], /not "70000"/],
  [['--port', ''], /not ""/],
  [['--port'], /argument missing/],
  [['--roles', 'api,cook'], /There is no role "cook": api, projectors, workers/],
  [['--fresh=yes'], /does not take an argument/],
])('%j is refused with exit code 2', (args, why) => {
  const { message, exitCode } = refusal(args);
  expect(message).toMatch(why);
  expect(exitCode).toBe(2);
});

test('--fresh beside servers of one’s own is refused: their data could not be read without the keys', () => {
  expect(refusal(['--fresh'], { DATABASE_URL: 'postgres://db' }).exitCode).toBe(2);
});

test('--help lists every option', () => {
  for (const option of ['--port', '--host', '--roles', '--fresh', '--help'])
    expect(START_HELP).toContain(option);
});
