import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Redis } from 'ioredis';
import { type Connection, runScript, script } from './connections.ts';
import type { PartitionKeys } from './partitions.ts';

export const metaScript = script(readFileSync(join(import.meta.dirname, 'meta.lua'), 'utf8'));

/** What a partition in Redis says of itself. */
export type Meta = {
  readonly store: string;
  readonly partitions: number;
  readonly epoch: number;
  readonly recovery: number;
  readonly seq: number;
  /** Run id of the server that it trusts. */
  readonly run: string;
  /** Highest last seq of any state that was evicted. */
  readonly evicted: number;
};

const FIELDS = ['store', 'partitions', 'epoch', 'recovery', 'seq', 'run', 'evicted'] as const;

/** The meta of every partition, by index; undefined where Redis has none. */
export async function readMetas(
  redis: Redis,
  keys: readonly PartitionKeys[],
): Promise<readonly (Meta | undefined)[]> {
  const pipeline = redis.pipeline();
  for (const { meta } of keys) pipeline.hmget(meta, ...FIELDS);
  const replies = (await pipeline.exec()) ?? [];
  return keys.map((_, partition) => {
    const [error, values] = replies[partition] ?? [new Error('Redis gave no answer')];
    if (error) throw error;
    return parseMeta(values);
  });
}

export function parseMeta(values: unknown): Meta | undefined {
  if (!Array.isArray(values)) return undefined;
  const [store, partitions, epoch, recovery, seq, run, evicted]: unknown[] = values;
  if (typeof store !== 'string' || typeof run !== 'string') return undefined;
  return {
    store,
    partitions: Number(partitions),
    epoch: Number(epoch),
    recovery: Number(recovery),
    seq: Number(seq),
    run,
    evicted: Number(evicted),
  };
}

/**
 * Sets what a partition trusts, if it still is as `before` says (undefined: there is none).
 * @returns false: something has changed, nothing was done
 */
export async function writeMeta(
  connection: Connection,
  keys: PartitionKeys,
  before: Meta | undefined,
  now: { store: string; partitions: number; epoch: number; run: string },
): Promise<boolean> {
  const args = [before?.epoch ?? '', before?.run ?? '', now.store, now.partitions, now.epoch, now.run];
  return (await runScript(connection.redis, metaScript, [keys.meta], args)) === 1;
}
