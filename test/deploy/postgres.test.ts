import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { Client } from 'pg';
import { expect, onTestFinished, test } from 'vitest';
import { removePostgres, startPostgres } from '../../deploy/local/servers.mjs';

type Options = Parameters<typeof startPostgres>[0];

const isRoot = process.getuid?.() === 0;

function folder(mode = 0o755): string {
  const parent = mkdtempSync(join(tmpdir(), 'millrace-postgres-test-'));
  chmodSync(parent, mode);
  const dir = join(parent, 'postgres');
  onTestFinished(async () => {
    await removePostgres(dir);
    rmSync(parent, { recursive: true, force: true });
  });
  return dir;
}

/** Quick to make; what is durable is the default's affair, which the first test starts with. */
async function start(options: Options) {
  const postgres = await startPostgres({ extra: ['fsync=off'], ...options });
  onTestFinished(() => postgres.stop());
  return postgres;
}

async function ask(url: string, statement: string): Promise<unknown[]> {
  const client = new Client(url);
  await client.connect();
  return client
    .query(statement)
    .then((result) => result.rows)
    .finally(() => client.end());
}

test('a private Postgres answers on a loopback port, with a database and a password of its own', async () => {
  const dir = folder();
  const postgres = await start({ dir, database: 'mill', extra: [] });
  expect(await ask(postgres.url, 'SHOW fsync')).toEqual([{ fsync: 'on' }]);
  expect(postgres.dataDir.startsWith(dir)).toBe(true);
  expect(await ask(postgres.url, 'SELECT current_database() AS name, 1 + 1 AS two')).toEqual([
    { name: 'mill', two: 2 },
  ]);
  const stranger = new URL(postgres.url);
  stranger.password = 'guessed';
  await expect(ask(stranger.href, 'SELECT 1')).rejects.toThrow(/password authentication failed/);
});

test('data is kept over a stop and a start, on the same port', async () => {
  const dir = folder();
  const first = await start({ dir });
  await ask(first.url, 'CREATE TABLE kept AS SELECT 7 AS n');
  await first.stop();
  const second = await start({ dir });
  expect(second.url).toBe(first.url);
  expect(await ask(second.url, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
});

test('committed data is kept over kill -9, and the next start needs no help', async () => {
  const dir = folder();
  const first = await start({ dir });
  await ask(first.url, 'CREATE TABLE kept AS SELECT 7 AS n');
  await first.kill();
  const second = await start({ dir });
  expect(await ask(second.url, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
});

test('a stale postmaster.pid that names a stranger stops nobody', async () => {
  const dir = folder();
  const first = await start({ dir });
  await first.stop();
  writeFileSync(join(first.dataDir, 'postmaster.pid'), `${process.pid}\n${first.dataDir}\n`);
  const second = await start({ dir });
  expect(await ask(second.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
});

test('a server that was left running, with clients on it, is stopped by the next start in its folder', async () => {
  const dir = folder();
  const left = await start({ dir });
  const client = new Client(left.url);
  client.on('error', () => {});
  await client.connect();
  const next = await start({ dir });
  expect(await left.exited).toBe('exit code 0');
  expect(await ask(next.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
});

test('a database that is asked for later is made beside the first', async () => {
  const dir = folder();
  const first = await start({ dir, database: 'one' });
  await first.stop();
  const second = await start({ dir, database: 'two' });
  expect(
    await ask(second.url, "SELECT count(*)::int AS n FROM pg_database WHERE datname IN ('one', 'two')"),
  ).toEqual([{ n: 2 }]);
});

test('settings of a test reach the server', async () => {
  const postgres = await start({ dir: folder(), extra: ['work_mem=9MB', 'fsync=off'] });
  expect(await ask(postgres.url, 'SHOW work_mem')).toEqual([{ work_mem: '9MB' }]);
});

test('a first start that was interrupted is begun again', async () => {
  const dir = folder();
  const first = await start({ dir });
  await first.stop();
  const { dataDir } = first;
  spawnSync('mv', [dataDir, `${dataDir}.new`]);
  const again = await start({ dir });
  expect(await ask(again.url, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
});

test.skipIf(!isRoot)(
  'as root, in a folder that only root may enter, its data lies elsewhere and is removed with it',
  async () => {
    const dir = folder(0o700);
    const first = await start({ dir });
    expect(first.dataDir.startsWith(dir)).toBe(false);
    await ask(first.url, 'CREATE TABLE kept AS SELECT 7 AS n');
    await first.stop();
    const second = await start({ dir });
    expect(second.dataDir).toBe(first.dataDir);
    expect(await ask(second.url, 'SELECT n FROM kept')).toEqual([{ n: 7 }]);
    await second.stop();
    await removePostgres(dir);
    expect(existsSync(dir)).toBe(false);
    expect(existsSync(dirname(first.dataDir))).toBe(false);
  },
);

test.skipIf(!isRoot)('a record that names a folder which is not ours removes nothing', async () => {
  const dir = folder();
  const postgres = await start({ dir });
  await postgres.stop();
  const stranger = mkdtempSync(join(tmpdir(), 'millrace-stranger-'));
  onTestFinished(() => rmSync(stranger, { recursive: true, force: true }));
  writeFileSync(join(dir, 'elsewhere.json'), JSON.stringify({ place: stranger }));
  await removePostgres(dir);
  expect(existsSync(stranger)).toBe(true);
});

test.skipIf(!isRoot)(
  'as root, packages that only root may enter are copied to where the server can run them',
  async () => {
    const { postgresBinaries, postgresUser } = await import('../../deploy/local/postgres-user.mjs');
    const user = postgresUser();
    expect(user?.uid).toBeGreaterThan(0);
    const parent = mkdtempSync(join(tmpdir(), 'millrace-packages-'));
    onTestFinished(() => rmSync(parent, { recursive: true, force: true }));
    const packaged = join(parent, 'native');
    spawnSync('cp', ['-a', postgresBinaries(undefined), packaged]);
    const binaries = postgresBinaries(user, packaged);
    onTestFinished(() => rmSync(binaries, { recursive: true, force: true }));
    expect(binaries.startsWith(parent)).toBe(false);
    const version = spawnSync(join(binaries, 'bin', 'postgres'), ['--version'], { cwd: '/', ...user });
    expect(version.stdout.toString()).toMatch(/^postgres \(PostgreSQL\) \d+/);
  },
);
