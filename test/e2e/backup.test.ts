import { execFile, spawnSync } from 'node:child_process';
import { chmod, mkdir, mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it, onTestFinished } from 'vitest';
import { postgresUser } from '../../deploy/local/postgres-user.mjs';
import { freePort } from '../../deploy/local/servers.mjs';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { migrateToLatest } from '../../src/projections/migrate.ts';
import { createInstallation, waitUntil } from '../support/installation.ts';
import { createWorld } from '../support/world.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const run = promisify(execFile);
/** Where this machine has a whole Postgres: the packaged one has a server alone, and clients of another version refuse it. */
const places =
  '/usr/lib/postgresql/*/bin /opt/homebrew/opt/postgresql*/bin $(dirname "$(command -v pg_dump)")';
const search = `for place in ${places}; do [ -x $place/initdb ] && [ -x $place/pg_dump ] && echo $place && break; done`;
const bin = spawnSync('sh', ['-c', search], { encoding: 'utf8' }).stdout.trim();

/** A Postgres of the version that the clients are of. */
async function startPostgresOf(folder: string): Promise<string> {
  const user = postgresUser() ?? {};
  const data = join(folder, 'data');
  const as = { cwd: '/', ...user };
  await mkdir(folder);
  await chmod(folder, 0o777);
  await run(
    join(bin, 'initdb'),
    ['-D', data, '-U', 'millrace', '--auth=trust', '--no-sync', '--encoding=UTF8', '--locale=C'],
    as,
  );
  const port = await freePort();
  const settings = `-p ${port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off`;
  const pgCtl = (...args: string[]) => run(join(bin, 'pg_ctl'), ['-D', data, ...args], as);
  await pgCtl('-w', '-o', settings, '-l', join(folder, 'log'), 'start');
  onTestFinished(async () => void (await pgCtl('-m', 'immediate', 'stop')));
  return `postgres://millrace@127.0.0.1:${port}`;
}

/** The commands of a page, by what it says before them. */
async function commandsOf(page: string): Promise<string[]> {
  const text = await readFile(join(ROOT, 'docs/runbooks', page), 'utf8');
  return [...text.matchAll(/```sh\n([\s\S]*?)```/g)].map(([, command = '']) => command);
}

it.skipIf(bin === '')(
  'a backup is taken while everything runs, tried beside it, and restored: Redis has what came since',
  async () => {
    const folder = await mkdtemp(join(tmpdir(), 'millrace-backup-'));
    onTestFinished(() => rm(folder, { recursive: true, force: true }));
    await chmod(folder, 0o755);
    const server = await startPostgresOf(join(folder, 'postgres'));
    const admin = openDatabase({ url: `${server}/postgres`, max: 1, applicationName: 'test' });
    await promisify(execFile)(join(bin, 'psql'), [`${server}/postgres`, '-c', 'CREATE DATABASE millrace']);
    await admin.destroy();
    const databaseUrl = `${server}/millrace`;
    const db = openDatabase({ url: databaseUrl, max: 1, applicationName: 'test' });
    await migrateToLatest(db).finally(() => db.destroy());
    const world = await createWorld();
    onTestFinished(() => world.dispose());
    const { redisUrl, prefix } = world;
    const installation = await createInstallation({ redisUrl, databaseUrl, prefix });
    onTestFinished(() => installation.dispose());
    const backup = join(folder, 'backup');
    await mkdir(backup);
    const sh = async (command: string | undefined) => {
      if (command === undefined) throw new Error('the page has fewer commands');
      const npx = `npx() { shift; node '${join(ROOT, 'src/cli/main.ts')}' "$@"; }`;
      const env = {
        ...installation.environment,
        PATH: `${bin}:${process.env.PATH}`,
        BACKUP: backup,
        DRILL_URL: `${server}/millrace_drill`,
        BEFORE_URL: `${server}/millrace_before`,
        ADMIN_URL: `${server}/postgres`,
      };
      return (await run('bash', ['-c', `set -euo pipefail\n${npx}\n${command}`], { env, timeout: 60_000 }))
        .stdout;
    };

    let roles = await installation.startAll();
    const client = installation.client();
    const ada = await client.register();
    const enqueue = async () => {
      const { body } = await client.send('POST', '/v1/jobs', {
        token: ada.token,
        body: { type: 'echo', payload: {} },
      });
      return String(body.id);
    };
    const succeeded = async (ids: readonly string[]) => {
      const found = await Promise.all(
        ids.map((id) => client.send('GET', `/v1/jobs/${id}`, { token: ada.token })),
      );
      return found.every(({ body }) => body.status === 'succeeded');
    };
    const exported = await client.send('POST', '/v1/exports', {
      token: ada.token,
      body: { dataset: 'events', format: 'ndjson' },
    });
    await client.finishedExport(String(exported.body.id), ada.token);
    const before = await Promise.all(Array.from({ length: 5 }, enqueue));
    await waitUntil(() => succeeded(before), 'jobs to succeed');

    const [take, base, drill, restore, verify, people, ...rest] = await commandsOf('backup-and-restore.md');
    expect(rest).toEqual([]);
    await sh(take);
    await sh(base);
    const since = await Promise.all(Array.from({ length: 5 }, enqueue));
    const bob = await client.register();
    await waitUntil(() => succeeded(since), 'jobs to succeed');
    expect(await sh(drill)).toMatch(/ledger +right/);

    await Promise.all(Object.values(roles).map((role) => role.stop()));
    await rm(installation.blobDir, { recursive: true });
    await sh(restore);
    roles = await installation.startAll();
    const after = await Promise.all(Array.from({ length: 5 }, enqueue));
    await waitUntil(() => succeeded([...before, ...since, ...after]), 'all jobs to have succeeded', 30_000);
    await waitUntil(async () => (await sh(verify).catch(() => 'WRONG')).includes('right'), 'verify', 30_000);
    const file = await client.send('GET', `/v1/exports/${exported.body.id}/download`, { token: ada.token });
    expect((await fetch(new URL(String(file.body.url), installation.url))).status).toBe(200);

    // Who registered since is known by the log, and locked out until the rows that are only in Postgres are added.
    await expect(client.logIn(bob.email, bob.password)).rejects.toThrow('401');
    await sh(people);
    const { token } = await client.logIn(bob.email, bob.password);
    const account = await client.send('GET', '/v1/accounts/me', { token });
    expect([account.status, account.body.email]).toEqual([200, bob.email]);

    const [confirm, dryRun] = await commandsOf('postgres-down.md');
    expect(await sh(confirm)).toMatch(/ f /);
    expect(await sh(dryRun)).toMatch(/nothing to recover/);
  },
  180_000,
);
