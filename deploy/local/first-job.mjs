// The proof of a first start: a log-in, and one export from the request to the file, over HTTP as any client does it.
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';
import { runCli } from './cli.mjs';
import { files } from './paths.mjs';
import { readRecord, stringIn, writeRecord } from './records.mjs';

const JOB_TIMEOUT_MS = 60_000;

/** @typedef {{ email: string, password: string }} Login */

/**
 * An operator's account with a random password. The password is written down before the account is made:
 * a start that is killed in between goes on with it.
 * @param {import('./node.mjs').Toolchain} toolchain
 * @param {Record<string, string>} environment
 * @param {string} apiUrl
 * @returns {Promise<Login>}
 */
export async function makeLogin(toolchain, environment, apiUrl) {
  const login = readLogin() ?? {
    email: 'operator@example.com',
    password: randomBytes(15).toString('base64url'),
  };
  writeRecord(files.login, login);
  const args = ['accounts', 'create', '--email', login.email, '--name', 'Operator', '--role', 'operator'];
  args.push('--reason', 'the first operator', '--yes');
  const { code, output } = await runCli(
    toolchain,
    environment,
    [...args, '--password-stdin', '--json'],
    login.password,
  );
  if (code !== 0 && (await logIn(apiUrl, login)) === undefined) {
    throw new Error(`the log-in could not be made: ${output.trim().split('\n').at(-1)}`);
  }
  return login;
}

/** @returns {Login | undefined} */
export function readLogin(file = files.login) {
  const record = readRecord(file);
  const email = stringIn(record, 'email');
  const password = stringIn(record, 'password');
  return email !== undefined && password !== undefined ? { email, password } : undefined;
}

/**
 * @param {string} apiUrl
 * @param {Login} login
 * @param {AbortSignal} signal
 * @returns {Promise<{ id: string, events: number }>} the export, and how many events its file holds
 */
export async function runFirstJob(apiUrl, login, signal) {
  const token = await logIn(apiUrl, login);
  if (token === undefined) throw new Error('the new log-in was refused');
  const authorization = `Bearer ${token}`;
  const { id } = await request(`${apiUrl}/v1/exports`, {
    authorization,
    body: { dataset: 'events', format: 'ndjson' },
  });
  const deadline = Date.now() + JOB_TIMEOUT_MS;
  for (;;) {
    signal.throwIfAborted();
    // It exists from the answer on; the read model may be a moment behind.
    const { status, error } = await request(`${apiUrl}/v1/exports/${id}`, {
      authorization,
      missing: { status: 'new' },
    });
    if (status === 'succeeded') break;
    if (status === 'failed' || status === 'cancelled') {
      throw new Error(`export ${id} ${status}${error ? `: ${JSON.stringify(error)}` : ''}`);
    }
    if (Date.now() > deadline)
      throw new Error(`export ${id} is still "${status}" after ${JOB_TIMEOUT_MS / 1000} s`);
    await sleep(50);
  }
  const { url } = await request(`${apiUrl}/v1/exports/${id}/download`, { authorization });
  const file = await fetch(new URL(String(url), apiUrl));
  if (!file.ok) throw new Error(`the file of export ${id} answered ${file.status}`);
  const lines = gunzipSync(Buffer.from(await file.arrayBuffer()))
    .toString('utf8')
    .split('\n');
  return { id: String(id), events: lines.filter((line) => line.trim() !== '').length };
}

/**
 * @param {string} apiUrl
 * @param {Login} login
 * @returns {Promise<string | undefined>} an access token
 */
async function logIn(apiUrl, login) {
  const answer = await request(`${apiUrl}/v1/sessions`, { body: { ...login }, refused: {} });
  return stringIn(answer, 'accessToken');
}

/**
 * @param {string} url
 * @param {{ authorization?: string, body?: Record<string, unknown>, missing?: Record<string, unknown>,
 *   refused?: Record<string, unknown> }} options `missing`: what a 404 means; `refused`: what a 401 means
 * @returns {Promise<Record<string, unknown>>}
 */
async function request(url, { authorization, body, missing, refused }) {
  const response = await fetch(url, {
    method: body ? 'POST' : 'GET',
    headers: { ...(body && { 'content-type': 'application/json' }), ...(authorization && { authorization }) },
    ...(body && { body: JSON.stringify(body) }),
    signal: AbortSignal.timeout(15_000),
  });
  const text = await response.text();
  if (response.status === 404 && missing) return missing;
  if (response.status === 401 && refused) return refused;
  if (!response.ok)
    throw new Error(`${new URL(url).pathname} answered ${response.status}: ${text.slice(0, 300)}`);
  return JSON.parse(text);
}
