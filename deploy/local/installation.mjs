// What runs in this checkout, written down for the next start, for `npx millrace` and for whoever looks.
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync } from 'node:fs';
import { dirname } from 'node:path';
import { files } from './paths.mjs';
import { removePostgres } from './postgres.mjs';
import { readRecord, writeRecord } from './records.mjs';

/**
 * @typedef {object} RoleRecord
 * @property {number} pid
 * @property {string} managementUrl
 * @property {string} log
 */

/**
 * @typedef {object} Installation
 * @property {string} id stable over restarts; the roles' INSTANCE_ID begins with it
 * @property {boolean} running
 * @property {string} [redisUrl] given ones as well as our own
 * @property {string} [databaseUrl]
 * @property {string} [apiUrl]
 * @property {Record<string, RoleRecord>} [roles]
 * @property {string} [postgresData] lies outside the checkout where Postgres' user may not enter that
 * @property {string} [redisData]
 */

/** @returns {Installation} */
export function readInstallation(file = files.installation) {
  const record = readRecord(file);
  return { running: false, ...record, id: typeof record.id === 'string' ? record.id : `local-${newId()}` };
}

/** @param {Installation} installation */
export function writeInstallation(installation, file = files.installation) {
  mkdirSync(dirname(file), { recursive: true });
  writeRecord(file, { ...installation });
}

/** Data, keys and logs; a Node that was installed here stays. */
export async function removeInstallation() {
  await removePostgres(files.postgres);
  const { node: _kept, ...made } = files;
  for (const path of Object.values(made)) rmSync(path, { recursive: true, force: true });
}

function newId() {
  return randomBytes(4).toString('hex');
}
