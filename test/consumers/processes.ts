import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { LeaseTiming } from '../../src/consumers/lease-keeper.ts';
import type { JobId } from '../../src/domain/ids.ts';
import type { OpenEventStore } from '../../src/eventstore/store.ts';
import { eventsInLogs } from '../support/log.ts';
import type { World } from '../support/world.ts';

export const PARTITIONS = 8;
const script = join(import.meta.dirname, '..', 'support', 'worker-process.ts');

/** A worker process of its own (test/support/worker-process.ts), ready; killed after the test. */
export async function startWorker(
  world: World,
  instanceId: string,
  timing: LeaseTiming = {},
  nodeArgs: readonly string[] = [],
  more: { concurrency?: number; slotMs?: number; children?: number } = {},
): Promise<ChildProcess & { said(): string }> {
  const child = spawn(process.execPath, [...nodeArgs, script], {
    env: {
      ...process.env,
      REDIS_URL: world.redisUrl,
      DATABASE_URL: world.databaseUrl,
      PREFIX: world.prefix,
      PARTITIONS: String(PARTITIONS),
      INSTANCE_ID: instanceId,
      LEASE_TIMING: JSON.stringify(timing),
      CONCURRENCY: String(more.concurrency ?? 4),
      CHILDREN: String(more.children ?? 1),
      ...(more.slotMs === undefined ? {} : { SLOT_MS: String(more.slotMs) }),
    },
    stdio: ['ignore', 'pipe', nodeArgs.length > 0 ? 'ignore' : 'inherit'],
  });
  onTestFinished(async () => {
    if (child.exitCode === null && child.signalCode === null) {
      child.kill('SIGKILL');
      await once(child, 'exit');
    }
  });
  let said = '';
  child.stdout?.on('data', (chunk) => (said += chunk));
  await once(child.stdout ?? child, 'data');
  return Object.assign(child, { said: () => said });
}

/** How many of the lanes each instance owns. */
export async function lanes(store: OpenEventStore): Promise<Record<string, number>> {
  const owners = await Promise.all(
    store.keys.map((keys) => store.reader.redis.hget(keys.lease('lane:default'), 'owner')),
  );
  const counts: Record<string, number> = {};
  for (const owner of owners) {
    const instance = owner?.split('#')[0] ?? 'nobody';
    counts[instance] = (counts[instance] ?? 0) + 1;
  }
  return counts;
}

/** A partition whose lane the instance owns. */
export async function laneOf(store: OpenEventStore, instance: string): Promise<number> {
  for (const keys of store.keys) {
    const owner = await store.reader.redis.hget(keys.lease('lane:default'), 'owner');
    if (owner?.startsWith(`${instance}#`)) return keys.partition;
  }
  throw new Error(`${instance} owns nothing`);
}

/** What the handler of a job said, in order: `begin | end <attempt> <instance>`, and `alone` in a process of its own. */
export async function runs(world: World, store: OpenEventStore, jobId: JobId): Promise<string[]> {
  const all = await store.reader.redis.lrange(`${world.prefix}:runs`, 0, -1);
  return all.filter((line) => line.includes(jobId)).map((line) => line.replace(` ${jobId}`, ''));
}

/** The results of a job that were accepted: more than one is a fault. */
export async function results(store: OpenEventStore, jobId: JobId): Promise<unknown[]> {
  return (await eventsInLogs(store))
    .filter(({ streamId, type }) => streamId === jobId && type === 'JobCompleted')
    .map(({ data }) => JSON.parse(data).result);
}

/** Ids of the processes in which jobs of this world ran alone, in order. */
export async function children(world: World, store: OpenEventStore): Promise<number[]> {
  return (await store.reader.redis.lrange(`${world.prefix}:children`, 0, -1)).map(Number);
}

export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
