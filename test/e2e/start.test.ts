import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { cpSync, mkdtempSync, readFileSync, realpathSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { isAlive } from '../../deploy/local/processes.mjs';
import { freePort } from '../../deploy/local/servers.mjs';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

let checkout: string;
let firstExport = '';

/** A copy of the checkout that has never been started; the packages are ours. */
beforeAll(() => {
  checkout = realpathSync(mkdtempSync(join(tmpdir(), 'millrace-checkout-')));
  for (const name of ['deploy', 'src', 'migrations', 'package.json', 'package-lock.json']) {
    cpSync(join(ROOT, name), join(checkout, name), { recursive: true });
  }
  symlinkSync(join(ROOT, 'node_modules'), join(checkout, 'node_modules'));
});

afterAll(async () => {
  const { removeInstallation } = await import(join(checkout, 'deploy/local/installation.mjs'));
  await removeInstallation();
  rmSync(checkout, { recursive: true, force: true });
});

/** Runs it as a terminal does: in a process group of its own. */
function start(...args: string[]) {
  const { REDIS_URL: _redis, DATABASE_URL: _database, ...env } = process.env;
  const child = spawn(process.execPath, [join(checkout, 'deploy/local/start.mjs'), ...args], {
    cwd: checkout,
    detached: true,
    env: { ...env, BCRYPT_COST: '4', SHUTDOWN_SECONDS: '10' },
  });
  const pid = child.pid ?? 0;
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => (output += data));
  const exited = once(child, 'close').then(([code]) => code as number | null);
  onTestFinished(() => {
    if (child.exitCode === null && child.signalCode === null) process.kill(-pid, 'SIGKILL');
  });
  return {
    pid,
    output: () => output,
    exited,
    async until(text: string) {
      while (!output.includes(text)) {
        if (child.exitCode !== null) throw new Error(`ended with ${child.exitCode}:\n${output}`);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    },
    /** What Ctrl-C does, and npm's copy of it. */
    async pressCtrlC() {
      process.kill(-pid, 'SIGINT');
      await new Promise((resolve) => setTimeout(resolve, 10));
      if (child.exitCode === null) process.kill(-pid, 'SIGINT');
      return exited;
    },
  };
}

function record(name: string) {
  return JSON.parse(readFileSync(join(checkout, '.millrace', name), 'utf8'));
}

async function logIn(): Promise<string> {
  const response = await fetch(`${record('installation.json').apiUrl}/v1/sessions`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: readFileSync(join(checkout, '.millrace/login.json')),
  });
  return ((await response.json()) as { accessToken: string }).accessToken;
}

async function statusOfFirstExport(): Promise<unknown> {
  const response = await fetch(`${record('installation.json').apiUrl}/v1/exports/${firstExport}`, {
    headers: { authorization: `Bearer ${await logIn()}` },
  });
  return ((await response.json()) as { status?: unknown }).status;
}

describe('npm start', { timeout: 120_000 }, () => {
  test('the first start runs a job end to end, shows how to log in, and Ctrl-C leaves with 0', async () => {
    const millrace = start('--port', '0');
    await millrace.until('Ctrl-C');
    expect(millrace.output()).toMatch(/the first job: export \S+ succeeded, [1-9]\d* events in its file/);
    expect(millrace.output()).toContain(record('login.json').password);
    firstExport = millrace.output().match(/first job: export (\S+)/)?.[1] ?? '';

    const [, curl = ''] = millrace.output().match(/Try it\s+(curl .*)/) ?? [];
    expect(JSON.parse(execFileSync('/bin/sh', ['-c', curl], { encoding: 'utf8' }))).toHaveProperty(
      'accessToken',
    );
    for (const name of ['env', 'login.json', 'installation.json']) {
      expect(statSync(join(checkout, '.millrace', name)).mode & 0o777, name).toBe(0o600);
    }

    expect(await millrace.pressCtrlC()).toBe(0);
    expect(millrace.output()).not.toContain('killed');
    expect(record('installation.json')).toEqual({ id: expect.any(String), running: false });
  });

  test('the second start finds its data, is ready within seconds, and runs no first job again', async () => {
    const { id } = record('installation.json');
    const millrace = start('--port', '0');
    await millrace.until('Ctrl-C');
    expect(Number(millrace.output().match(/ready in ([\d.]+) s/)?.[1])).toBeLessThan(20); // below 5 s on an idle machine
    expect(millrace.output()).not.toContain('first job');
    expect(millrace.output()).not.toContain(record('login.json').password);
    expect(record('installation.json')).toMatchObject({ id, running: true });
    expect(await statusOfFirstExport()).toBe('succeeded');

    const second = start('--port', '0');
    expect(await second.exited).toBe(1);
    expect(second.output()).toMatch(
      /^Millrace runs in this checkout already, at http:\S+: stop that one first\.\n$/,
    );

    process.kill(millrace.pid, 'SIGTERM');
    expect(await millrace.exited).toBe(0);
  });

  test('a port that is taken is said in one line, before anything starts', async () => {
    const port = await freePort();
    const holder = createServer().listen(port, '127.0.0.1');
    await once(holder, 'listening');
    onTestFinished(() => void holder.close());
    const millrace = start('--port', String(port));
    expect(await millrace.exited).toBe(1);
    expect(millrace.output().trim().split('\n')).toEqual([
      expect.stringContaining(`Port ${port} of 127.0.0.1 is taken`),
    ]);
  });

  test('when one part crashes it is named in one line, and everything stops', async () => {
    const millrace = start('--port', '0');
    await millrace.until('Ctrl-C');
    const { roles, apiUrl } = record('installation.json');
    process.kill(roles.projectors.pid, 'SIGKILL');
    expect(await millrace.exited).toBe(1);
    expect(millrace.output()).toMatch(/^projectors ended \(killed by SIGKILL\)/m);
    await expect(fetch(`${apiUrl}/livez`)).rejects.toThrow();
  });

  test('after kill -9 of the launcher nothing stays behind, and the next start goes on', async () => {
    const killed = start('--port', '0');
    await killed.until('Ctrl-C');
    const { roles } = record('installation.json');
    process.kill(killed.pid, 'SIGKILL');
    await killed.exited;

    const next = start('--port', '0');
    await next.until('Ctrl-C');
    for (const { pid } of Object.values(roles) as { pid: number }[]) {
      expect(isAlive(pid), `process ${pid}`).toBe(false);
    }
    expect(await statusOfFirstExport()).toBe('succeeded');
    expect(await next.pressCtrlC()).toBe(0);
  });
});
