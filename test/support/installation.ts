import { type ChildProcess, spawn } from 'node:child_process';
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { freePort } from '../../deploy/local/servers.mjs';
import { type Client, createClient } from './client.ts';
import { inherited } from './inherited.ts';

export type RoleName = 'api' | 'projectors' | 'workers';

export type RoleProcess = {
  readonly name: RoleName;
  readonly pid: number;
  readonly managementUrl: string;
  /** What it has logged so far, JSON lines. */
  logs(): string;
  /** SIGTERM, and waits. Answers the exit code. */
  stop(): Promise<number | null>;
  /** SIGKILL, and waits. */
  kill(): Promise<void>;
  signal(signal: NodeJS.Signals): void;
  /** `/readyz`, as it is right now. */
  readyz(): Promise<{ status: number; body: string }>;
};

export type Installation = {
  readonly url: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly blobDir: string;
  client(): Client;
  /** @param root another checkout to start it from */
  start(role: RoleName, environment?: Record<string, string>, root?: string): Promise<RoleProcess>;
  /** Starts all three. */
  startAll(): Promise<Record<RoleName, RoleProcess>>;
  /** An operator who has logged in; the API must run. */
  operator(): Promise<{ token: string }>;
  /** Runs `millrace …` and answers what it printed. */
  cli(
    args: readonly string[],
    input?: string,
    root?: string,
  ): Promise<{ code: number | null; stdout: string; stderr: string }>;
  dispose(): Promise<void>;
};

const ROOT = join(import.meta.dirname, '..', '..');

/** An installation of real processes, on given servers; secrets and blobs of its own. */
export async function createInstallation(servers: {
  redisUrl: string;
  databaseUrl: string;
  prefix: string;
  environment?: Record<string, string>;
}): Promise<Installation> {
  const port = await freePort();
  const blobDir = await mkdtemp(join(tmpdir(), 'millrace-blobs-'));
  const { privateKey } = generateKeyPairSync('ed25519');
  const environment: Record<string, string> = {
    REDIS_URL: servers.redisUrl,
    DATABASE_URL: servers.databaseUrl,
    KEY_PREFIX: servers.prefix,
    MASTER_KEY: randomBytes(32).toString('base64'),
    HMAC_KEY: randomBytes(32).toString('base64'),
    TOKEN_KEYS: `test:${privateKey.export({ format: 'der', type: 'pkcs8' }).toString('base64')}`,
    PORT: String(port),
    BLOB_DIR: blobDir,
    BCRYPT_COST: '4',
    RATE_LIMITS: 'false',
    PARTITIONS: '4',
    SHUTDOWN_SECONDS: '5',
    ...servers.environment,
  };
  const processes: RoleProcess[] = [];
  let started = 0;

  const installation: Installation = {
    url: `http://127.0.0.1:${port}`,
    environment,
    blobDir,
    client: () => createClient(`http://127.0.0.1:${port}`),
    async start(role, extra = {}, root = ROOT) {
      const managementPort = await freePort();
      const child = spawn(process.execPath, [join(root, 'src/main.ts'), '--roles', role], {
        env: {
          ...inherited(),
          ...environment,
          INSTANCE_ID: `test-${role}-${++started}`,
          MANAGEMENT_PORT: String(managementPort),
          ...extra,
        },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      const running = roleProcess(role, child, `http://127.0.0.1:${managementPort}`);
      processes.push(running);
      await waitUntil(
        async () => {
          if (child.exitCode !== null)
            throw new Error(`${role} ended with ${child.exitCode}:\n${running.logs()}`);
          return (await running.readyz().catch(() => undefined))?.status === 200;
        },
        `${role} to be ready`,
        60_000,
        () => running.logs(),
      );
      return running;
    },
    async startAll() {
      const [api, projectors, workers] = await Promise.all([
        installation.start('api'),
        installation.start('projectors'),
        installation.start('workers'),
      ]);
      return { api, projectors, workers };
    },
    async operator() {
      const [email, password] = [`${randomBytes(6).toString('hex')}@example.com`, 'a long enough password'];
      const args = [
        'accounts',
        'create',
        '--email',
        email,
        '--name',
        'Op',
        '--role',
        'operator',
        '--reason',
        'a test',
        '--yes',
      ];
      const made = await runCli([...args, '--password-stdin', '--json'], environment, password);
      if (made.code !== 0) throw new Error(`making an operator: ${made.stderr}`);
      return installation.client().logIn(email, password);
    },
    cli: (args, input, root) => runCli(args, environment, input, root),
    async dispose() {
      await Promise.all(processes.map((running) => running.kill()));
      await rm(blobDir, { recursive: true, force: true });
    },
  };
  return installation;
}

function roleProcess(name: RoleName, child: ChildProcess, managementUrl: string): RoleProcess {
  let output = '';
  child.stdout?.on('data', (chunk) => (output += chunk));
  child.stderr?.on('data', (chunk) => (output += chunk));
  const exited = new Promise<number | null>((resolve) => child.once('exit', (code) => resolve(code)));
  return {
    name,
    pid: child.pid ?? -1,
    managementUrl,
    logs: () => output,
    signal: (signal) => void child.kill(signal),
    stop() {
      child.kill('SIGTERM');
      return exited;
    },
    async kill() {
      child.kill('SIGKILL');
      await exited;
    },
    async readyz() {
      const response = await fetch(`${managementUrl}/readyz`, { signal: AbortSignal.timeout(3000) });
      return { status: response.status, body: await response.text() };
    },
  };
}

function runCli(args: readonly string[], environment: Record<string, string>, input = '', root = ROOT) {
  const child = spawn(process.execPath, [join(root, 'src/cli/main.ts'), ...args], {
    env: { ...inherited(), ...environment },
  });
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (chunk) => (stdout += chunk));
  child.stderr.on('data', (chunk) => (stderr += chunk));
  child.stdin.end(input);
  return new Promise<{ code: number | null; stdout: string; stderr: string }>((resolve) =>
    child.once('close', (code) => resolve({ code, stdout, stderr })),
  );
}

/** Waits for a condition; a test that it never comes true for fails, and says what it waited for. */
export async function waitUntil(
  condition: () => Promise<boolean> | boolean,
  what: string,
  timeoutMs = 15_000,
  context: () => string = () => '',
): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!(await condition())) {
    if (Date.now() > deadline)
      throw new Error(`waited ${timeoutMs} ms for ${what}\n${context().slice(-8_000)}`);
    await sleep(20);
  }
}
