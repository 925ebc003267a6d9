import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { checkMasterKeys } from '../access/master-keys.ts';
import { createHmacs } from '../access/signing.ts';
import type { Config } from '../config.ts';
import type { SpawnChild } from '../consumers/in-child.ts';
import { startWorkers } from '../consumers/workers.ts';
import { type Base, openParts, orClose, type Role } from './base.ts';
import { roleDeps, roleOf } from './consuming.ts';
import { jobDefinitions } from './jobs.ts';
import { masterKeysOf } from './people.ts';
import { openSealing } from './sealing.ts';
import { commandBasics, hexHmac } from './write-side.ts';

/** The part of a shutdown's time that jobs have; the rest is for handing over what is left of them. */
const DRAIN_JOBS = 0.9;
/** Of a process that runs one job. */
const CHILD_POOL = 2;

/** Workers: the lanes and the jobs that they run. */
export async function startWorkerRole(base: Base): Promise<Role> {
  const { config } = base;
  const parts = await openParts(base, 'workers');
  await orClose(parts.close, checkMasterKeys(parts.db, masterKeysOf(config)));
  const sealing = openSealing(config, parts.db, parts.store);
  const running = await startWorkers({
    ...roleDeps(base, parts, 'workers'),
    ...commandBasics(parts.store),
    hmac: hexHmac(createHmacs(config.HMAC_KEY)),
    jobs: jobDefinitions(config, parts, sealing),
    seals: sealing.seals,
    spawn: childrenOf(config),
    mostChildren: config.WORKER_CHILDREN,
    concurrency: config.WORKER_CONCURRENCY,
    queueLimits: config.QUEUE_LIMITS,
    drainMs: config.SHUTDOWN_SECONDS * 1000 * DRAIN_JOBS,
    random: Math.random,
  });
  return roleOf('workers', running, parts, parts.close);
}

/** Processes with the settings of this one, each with a heap that can't take the memory of all. */
function childrenOf(config: Config): SpawnChild {
  const entry = fileURLToPath(new URL('./child.ts', import.meta.url));
  return () =>
    fork(entry, {
      env: { ...process.env, INSTANCE_ID: config.INSTANCE_ID, DATABASE_POOL: String(CHILD_POOL) },
      execArgv: [`--max-old-space-size=${config.WORKER_CHILD_MEMORY_MB}`],
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
}
