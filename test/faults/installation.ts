import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeSecrets } from '../../deploy/local/secrets.mjs';
import { openDatabase } from '../../src/eventstore/postgres.ts';
import { migrateToLatest } from '../../src/projections/migrate.ts';
import { inherited } from '../support/inherited.ts';
import { openProxy, type TcpProxy } from '../support/tcp-proxy.ts';
import { PROCESSES, type ProcessName, type ServerName } from './plan.ts';
import { type Supervised, supervise } from './processes.ts';
import type { Servers } from './servers.ts';

export const PREFIX = 'mill';
export const PARTITIONS = 4;

/** Shorter than an installation's, so that a storm of a minute sees many leases expire and change hands. */
export const TIMING = {
  '/src/consumers/lease-keeper.ts': { LEASE_MS: 5_000, RENEW_EVERY_MS: 1_500 },
  '/src/consumers/membership.ts': { HEARTBEAT_MS: 1_000 },
} as const;
export const LEASE_MS = TIMING['/src/consumers/lease-keeper.ts'].LEASE_MS;

const READY_MS = 60_000;

export type Installation = {
  readonly processes: ReadonlyMap<ProcessName, Supervised>;
  process(name: ProcessName): Supervised;
  /** The way from a process to a server. */
  network(process: ProcessName, server: ServerName): TcpProxy;
  /** Runs `millrace …`, past all proxies. */
  cli(args: readonly string[]): Promise<{ readonly code: number | null; readonly output: string }>;
  /** Every connection is as it should be, every process runs, by the right clock. */
  heal(): void;
  /** Waits until every process is ready. Throws with the logs of those that are not. */
  ready(): Promise<void>;
  close(): Promise<void>;
};

/** Two APIs, three workers, two projectors, from `src/main.ts`; each reaches its servers by proxies of its own. */
export async function startInstallation(servers: Servers): Promise<Installation> {
  const db = openDatabase<never>({ url: servers.postgres.url, max: 1, applicationName: 'faults-setup' });
  await migrateToLatest(db).finally(() => db.destroy());
  const blobs = join(servers.dir, 'blobs');
  await mkdir(blobs, { recursive: true });
  const common: Record<string, string> = {
    ...makeSecrets(),
    KEY_PREFIX: PREFIX,
    PARTITIONS: String(PARTITIONS),
    BLOB_DIR: blobs,
    BCRYPT_COST: '4',
    RATE_LIMITS: 'false',
    SHUTDOWN_SECONDS: '4',
    DURABILITY_TIMEOUT_MS: '1500',
    WORKER_CONCURRENCY: '10',
    WORKER_CHILDREN: '3',
    // Trimmed so close that who was away for some seconds finds what it missed in the ledger alone.
    LOG_KEEP_EVENTS: '50',
    LOG_KEEP_SECONDS: '2',
    FAULTS_EFFECTS: servers.effects.url,
    FAULTS_TIMING: JSON.stringify(TIMING),
  };
  const proxies = new Map<string, TcpProxy>();
  const processes = new Map<ProcessName, Supervised>();
  const close = async () => {
    await Promise.all([...processes.values()].map((each) => each.close()));
    await Promise.all([...proxies.values()].map((each) => each.close()));
  };
  const network = (name: ProcessName, server: ServerName) => {
    const proxy = proxies.get(`${name} ${server}`);
    if (!proxy) throw new Error(`${name} has no way to ${server}`);
    return proxy;
  };
  try {
    // One after the other: two that start on an empty installation at once are another test's.
    for (const [role, names] of Object.entries(PROCESSES)) {
      for (const name of names) {
        for (const server of ['redis', 'postgres'] as const) {
          const { port } = servers[server];
          proxies.set(`${name} ${server}`, await openProxy(() => ({ host: '127.0.0.1', port })));
        }
        const through = (server: ServerName) => {
          const url = new URL(servers[server].url);
          url.port = String(network(name, server).port);
          return url.href;
        };
        const own = { REDIS_URL: through('redis'), DATABASE_URL: through('postgres') };
        processes.set(name, await supervise(name, role, { ...common, ...own }, servers.dir));
      }
    }
    const installation: Installation = {
      processes,
      network,
      cli: (args) =>
        runCli(args, { ...common, REDIS_URL: servers.redis.url, DATABASE_URL: servers.postgres.url }),
      process(name) {
        const found = processes.get(name);
        if (!found) throw new Error(`there is no process ${name}`);
        return found;
      },
      heal() {
        for (const proxy of proxies.values()) {
          proxy.accept();
          proxy.delay(0);
          proxy.dropReplyTo(undefined);
        }
        for (const each of processes.values()) {
          each.signal('SIGCONT');
          each.setClock(0);
          each.start();
        }
      },
      ready: () => untilReady([...processes.values()]),
      close,
    };
    await installation.ready();
    return installation;
  } catch (error) {
    await close();
    throw error;
  }
}

function runCli(
  args: readonly string[],
  environment: Record<string, string>,
): Promise<{ code: number | null; output: string }> {
  const main = join(import.meta.dirname, '../../src/cli/main.ts');
  const child = spawn(process.execPath, [main, ...args], {
    env: { ...inherited(), ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += chunk));
  return new Promise((resolve) => child.once('close', (code) => resolve({ code, output })));
}

async function untilReady(processes: readonly Supervised[]): Promise<void> {
  const deadline = Date.now() + READY_MS;
  for (;;) {
    const ready = await Promise.all(processes.map((each) => each.isReady()));
    const late = processes.filter((_, index) => !ready[index]);
    if (late.length === 0) return;
    if (Date.now() > deadline) {
      const said = late.map((each) => `${each.name}:\n${each.log().slice(-3_000)}`).join('\n');
      throw new Error(`not ready after ${READY_MS / 1000} s:\n${said}`);
    }
    await sleep(100);
  }
}
