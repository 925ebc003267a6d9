import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { StreamId } from '../domain/ids.ts';
import { type Connection, runScript, script } from './connections.ts';
import type { Fence } from './fence.ts';
import type { PartitionKeys } from './partitions.ts';
import { StoreFencedError, StoreUnavailableError } from './types.ts';

export const maintainScript = script(readFileSync(join(import.meta.dirname, 'maintain.lua'), 'utf8'));

export type Maintenance = {
  readonly partition: number;
  /** Up to here the ledger holds everything: the `seq` of its checkpoint. */
  readonly heldSeq: number;
  /** Streams that will not change soon: their states leave Redis where the ledger has all of their events. */
  readonly evict?: readonly StreamId[];
  /** The newest log entry to trim, with all before it; at most `heldSeq`. */
  readonly trimTo?: { readonly epoch: number; readonly seq: number };
};

/**
 * Evicts states and trims the log of a partition. Works also while Redis is full. Throws
 * `StoreUnavailableError` (with a fence: `StoreFencedError`) when nothing was done.
 */
export async function maintain(
  connection: Connection,
  keys: readonly PartitionKeys[],
  fence: Fence,
  { partition, heldSeq, evict = [], trimTo = { epoch: 0, seq: 0 } }: Maintenance,
): Promise<{ evicted: number; trimmed: number }> {
  const names = keys[partition];
  const trusted = fence.trusted(partition);
  const runId = connection.runId();
  if (runId === undefined) throw new StoreUnavailableError('Redis is not reachable');
  if (!names || !trusted) throw new StoreFencedError(fence.reason() ?? 'commits are stopped');
  const reply = await runScript(
    connection.redis,
    maintainScript,
    [names.meta, names.log, ...evict.map(names.state)],
    [trusted.storeId, trusted.epoch, runId, heldSeq, trimTo.epoch, trimTo.seq],
  ).catch((error: unknown) => {
    if (error instanceof Error && error.message.startsWith('FENCED')) {
      throw new StoreFencedError(fence.reason() ?? error.message);
    }
    throw error;
  });
  const [evicted, trimmed]: unknown[] = Array.isArray(reply) ? reply : [];
  return { evicted: Number(evicted), trimmed: Number(trimmed) };
}
