import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { spawnTethered } from '../../deploy/local/lifeline.mjs';
import { inherited } from '../support/inherited.ts';
import type { ProcessName } from './plan.ts';
import { lastingPort } from './ports.ts';

const ROOT = join(import.meta.dirname, '..', '..');
const AGAIN_MS = 300;

/** A process of the installation, under a supervisor: one that ends without being told to is started again. */
export type Supervised = {
  readonly name: ProcessName;
  /** Of its API, if it has one. */
  readonly url: string;
  /** SIGKILL, to this process alone and to no child of it; it stays down until `start`. */
  kill(): Promise<void>;
  /** SIGTERM, and waits until it has left. */
  stop(): Promise<void>;
  start(): void;
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void;
  /** The wall clock that it sees is off by so much, from now on and after restarts. */
  setClock(shiftMs: number): void;
  /** Whether `/readyz` answers 200. */
  isReady(): Promise<boolean>;
  log(): string;
  /** How often it ended without being told to. */
  ownEnds(): number;
  /** Ends it and whatever it has started. */
  close(): Promise<void>;
};

/** @param environment its own, besides what all have in common */
export async function supervise(
  name: ProcessName,
  role: string,
  environment: Record<string, string>,
  dir: string,
): Promise<Supervised> {
  const [port, managementPort] = [await lastingPort(), await lastingPort()];
  const logFile = join(dir, `${name}.log`);
  const clockFile = join(dir, `${name}.clock`);
  writeFileSync(logFile, '');
  writeFileSync(clockFile, '0');
  const groups = new Set<number>();
  let wanted = true;
  let ownEnds = 0;
  let current = spawn();

  function spawn() {
    const child = spawnTethered({
      command: process.execPath,
      args: ['src/main.ts', '--roles', role],
      lastSignal: 'TERM',
      log: logFile,
      cwd: ROOT,
      env: {
        ...inherited(),
        ...environment,
        // In the environment: the processes in which jobs run alone know the suite's job, too.
        NODE_OPTIONS: `--import ${join(import.meta.dirname, 'preload.ts')}`,
        INSTANCE_ID: name,
        PORT: String(port),
        MANAGEMENT_PORT: String(managementPort),
        FAULTS_CLOCK: clockFile,
      },
      detached: true,
    });
    groups.add(child.pid);
    void child.exited.then(async () => {
      if (!wanted || current !== child) return;
      ownEnds++;
      await sleep(AGAIN_MS);
      if (wanted && current === child) current = spawn();
    });
    return child;
  }

  const endNow = async () => {
    wanted = false;
    current.signal('SIGKILL');
    await current.exited;
  };
  return {
    name,
    url: `http://127.0.0.1:${port}`,
    kill: endNow,
    async stop() {
      wanted = false;
      current.signal('SIGTERM');
      current.signal('SIGCONT');
      await current.exited;
    },
    start() {
      if (wanted) return;
      wanted = true;
      current = spawn();
    },
    signal: (signal) => current.signal(signal),
    setClock(shiftMs) {
      writeFileSync(clockFile, String(shiftMs));
      if (!current.hasExited()) process.kill(current.pid, 'SIGUSR2');
    },
    async isReady() {
      const url = `http://127.0.0.1:${managementPort}/readyz`;
      const answer = await fetch(url, { signal: AbortSignal.timeout(3_000) }).catch(() => undefined);
      await answer?.body?.cancel();
      return answer?.status === 200;
    },
    log: () => readFileSync(logFile, 'utf8'),
    ownEnds: () => ownEnds,
    async close() {
      await endNow();
      // Children that a killed process left are in its group still.
      for (const group of groups) {
        try {
          process.kill(-group, 'SIGKILL');
        } catch {
          // Nobody is left in it.
        }
      }
    },
  };
}
