import { execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { freePort, portIsFree } from './free-port.mjs';
import { placeFor, postgresBinaries, postgresUser, removePlace } from './postgres-user.mjs';
import { numberIn, readRecord, writeRecord } from './records.mjs';
import { lastLines, spawnServer, stopLeftover } from './server-process.mjs';

/** @typedef {import('./server-process.mjs').Server} Server */
/** @typedef {import('./postgres-user.mjs').User} User */

const START_TIMEOUT_MS = 60_000;
const OWNER = 'millrace';

/**
 * Starts a Postgres of our own on 127.0.0.1, with a database and a random password. Started again in the same
 * folder it finds its data. What an earlier start left running there is stopped first. As root it runs as
 * another user; where that user may not enter `dir`, its data lies elsewhere: `removePostgres` removes both.
 * @param {object} options
 * @param {string} options.dir made when missing
 * @param {number} [options.port] default: the folder's last one if it is free, else any
 * @param {string} [options.database] made when missing
 * @param {readonly string[]} [options.extra] settings, such as `['fsync=off']`
 * @returns {Promise<Server & { dataDir: string }>}
 */
export async function startPostgres({ dir, port, database = 'millrace', extra = [] }) {
  if (!/^[a-z_][a-z0-9_]{0,62}$/.test(database)) throw new Error(`"${database}" is no name for a database`);
  const folder = resolve(dir);
  const user = postgresUser();
  const binaries = postgresBinaries(user);
  const place = placeFor(folder, user);
  const dataDir = join(place, 'data');
  const record = join(folder, 'server.json');
  const log = join(folder, 'postgres.log');

  await stopLeftover(postmasterPid(dataDir), (line) => isPostgresIn(line, dataDir), 'SIGINT');
  // What is left of a killed server. Its pid may be another process by now, which Postgres would take for a server.
  rmSync(join(dataDir, 'postmaster.pid'), { force: true });
  const password = passwordOf(folder);
  if (!existsSync(dataDir)) await initialise({ binaries, place, dataDir, user, password, extra });
  await ensureDatabase({ binaries, dataDir, user, database });

  const last = numberIn(readRecord(record), 'port');
  const chosen = port ?? (last !== undefined && (await portIsFree(last)) ? last : await freePort());
  const settings = [
    'listen_addresses=127.0.0.1',
    'unix_socket_directories=',
    'max_connections=200',
    ...extra,
  ];
  const server = await startOnceFree(() =>
    spawnServer({
      command: join(binaries, 'bin', 'postgres'),
      args: ['-D', dataDir, '-p', String(chosen), ...settings.flatMap((setting) => ['-c', setting])],
      stopSignal: 'INT', // TERM would wait for every client to leave
      log,
      cwd: '/',
      user,
    }),
  );
  writeRecord(record, { pid: server.pid, port: chosen });

  const url = `postgres://${OWNER}:${password}@127.0.0.1:${chosen}/${database}`;
  const { pid, exited, stop, kill } = server;
  return { url, port: chosen, pid, dir: folder, dataDir, log, exited, stop, kill };

  /**
   * After a kill -9 the children of the old server may live on for a moment, and hold its memory.
   * @param {() => ReturnType<typeof spawnServer>} spawn
   */
  async function startOnceFree(spawn) {
    const deadline = Date.now() + START_TIMEOUT_MS;
    for (;;) {
      const attempt = spawn();
      while (!isReady(dataDir, attempt.pid) && !attempt.hasExited() && Date.now() < deadline) await sleep(10);
      if (isReady(dataDir, attempt.pid)) return attempt;
      const said = lastLines(log, 3);
      if (!attempt.hasExited()) {
        await attempt.kill();
        throw new Error(`Postgres is not ready after ${START_TIMEOUT_MS / 1000} s: ${said}`);
      }
      const held = said.includes('pre-existing shared memory block');
      if (!held || Date.now() > deadline) {
        throw new Error(`Postgres did not start (${await attempt.exited}): ${said}`);
      }
      await sleep(100);
    }
  }
}

/**
 * Removes a stopped Postgres' data, also where it lies elsewhere.
 * @param {string} dir
 */
export async function removePostgres(dir) {
  const folder = resolve(dir);
  const place = existsSync(folder) ? placeFor(folder, postgresUser()) : folder;
  const dataDir = join(place, 'data');
  await stopLeftover(postmasterPid(dataDir), (line) => isPostgresIn(line, dataDir), 'SIGINT');
  removePlace(folder);
}

/**
 * @param {{ binaries: string, place: string, dataDir: string, user: User | undefined, password: string,
 *   extra: readonly string[] }} where
 */
async function initialise({ binaries, place, dataDir, user, password, extra }) {
  // In a draft, then renamed: a first start that is interrupted leaves no half of a database behind.
  const draft = `${dataDir}.new`;
  rmSync(draft, { recursive: true, force: true });
  mkdirSync(draft, { mode: 0o700 });
  const passwordFile = join(place, 'password.new');
  writeFileSync(passwordFile, `${password}\n`, { mode: 0o600 });
  if (user) {
    chownSync(draft, user.uid, user.gid);
    chownSync(passwordFile, user.uid, user.gid);
  }
  const flags = [
    ['-D', draft, '-U', OWNER, '--auth=scram-sha-256', `--pwfile=${passwordFile}`],
    // The same order of strings on every system: libc's locales differ.
    ['--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'],
    extra.includes('fsync=off') ? ['--no-sync'] : [],
  ];
  await run(join(binaries, 'bin', 'initdb'), flags.flat(), user, 'Postgres could not make its data folder');
  rmSync(passwordFile, { force: true });
  renameSync(draft, dataDir);
}

/**
 * In single-user mode, before the server runs: needs no client.
 * @param {{ binaries: string, dataDir: string, user: User | undefined, database: string }} where
 */
async function ensureDatabase({ binaries, dataDir, user, database }) {
  const record = join(dataDir, 'millrace-databases.json'); // with the data, as it is true of no other
  const known = readRecord(record);
  if (known[database] === true) return;
  const failed = `Postgres could not make the database ${database}`;
  const args = ['--single', '-D', dataDir, 'postgres'];
  const said = await run(
    join(binaries, 'bin', 'postgres'),
    args,
    user,
    failed,
    `CREATE DATABASE ${database}\n`,
  );
  // A start that was killed before it wrote the record has left the database.
  if (/ERROR/.test(said) && !said.includes('already exists')) throw new Error(`${failed}: ${said.trim()}`);
  writeRecord(record, { ...known, [database]: true });
}

/**
 * @param {string} command
 * @param {readonly string[]} args
 * @param {User | undefined} user
 * @param {string} failed
 * @param {string} [input]
 * @returns {Promise<string>} what it said
 */
async function run(command, args, user, failed, input = '') {
  try {
    const env = { PATH: process.env.PATH, LC_ALL: 'C', TZ: process.env.TZ };
    const running = promisify(execFile)(command, args, { cwd: '/', env, ...user });
    running.child.stdin?.on('error', () => {}).end(input);
    const { stdout, stderr } = await running;
    return `${stdout}${stderr}`;
  } catch (error) {
    const { stderr, message } = /** @type {Error & { stderr?: string }} */ (error);
    throw new Error(`${failed}: ${stderr?.trim() || message}`);
  }
}

/** @param {string} folder */
function passwordOf(folder) {
  const file = join(folder, 'password');
  if (existsSync(file)) return readFileSync(file, 'utf8').trim();
  const password = randomBytes(18).toString('base64url');
  writeFileSync(file, `${password}\n`, { mode: 0o600 });
  chmodSync(file, 0o600);
  return password;
}

/**
 * The server's own word, as pg_ctl reads it.
 * @param {string} dataDir
 * @param {number} pid
 */
function isReady(dataDir, pid) {
  const lines = postmasterFile(dataDir);
  return Number(lines[0]) === pid && lines[7]?.trim() === 'ready';
}

/** @param {string} dataDir */
function postmasterPid(dataDir) {
  const pid = Number(postmasterFile(dataDir)[0]);
  return Number.isInteger(pid) && pid > 0 ? pid : undefined;
}

/** @param {string} dataDir */
function postmasterFile(dataDir) {
  try {
    return readFileSync(join(dataDir, 'postmaster.pid'), 'utf8').split('\n');
  } catch {
    return [];
  }
}

/**
 * @param {string} line
 * @param {string} dataDir
 */
function isPostgresIn(line, dataDir) {
  return /\bpostgres\b/.test(line) && line.includes(dataDir);
}
