import type { JobId } from '../domain/ids.ts';
import { pause } from './backoff.ts';
import type { Concurrency, HeldSlot, Limit } from './concurrency.ts';
import type { Lease } from './leases.ts';
import type { Slots } from './slots.ts';

const AGAIN_MS = 500;

/** The slots of the process, as a lane sees them whose queue may have a limit over all processes. */
export type LimitedSlots = {
  /** As of `Slots`; also undefined while Redis is away. What was taken of the queue's limit is kept for the job. */
  acquire(signal: AbortSignal, jobId: JobId): Promise<(() => void) | undefined>;
  /** A slot that is free right now, where the queue has no limit. */
  take(): (() => void) | undefined;
  /** Runs a job and gives back its slot of the queue's limit, unless the lease is lost: the next owner takes that over. */
  during<T>(jobId: JobId, lease: Lease, run: () => Promise<T>): Promise<T>;
  /** Gives back what was taken for jobs that were not begun. */
  close(lease: Lease): Promise<void>;
};

/**
 * A lane waits for the slot of its queue with the job in hand, and takes no more meanwhile: all that it could take
 * waits for the same. It has no slot of the process as long.
 */
export function limitedSlots(slots: Slots, concurrency: Concurrency, limit: Limit | undefined): LimitedSlots {
  const held = new Map<JobId, HeldSlot>();
  const release = async (jobId: JobId, lease: Lease) => {
    const slot = held.get(jobId);
    held.delete(jobId);
    if (lease.lost.aborted) slot?.forget();
    else await slot?.release();
  };
  return {
    async acquire(signal, jobId) {
      if (limit && !held.has(jobId)) {
        const slot = await concurrency.wait(limit, jobId, signal).catch(() => pause(AGAIN_MS, signal));
        if (!slot) return undefined;
        held.set(jobId, slot);
      }
      return slots.acquire(signal);
    },
    take: () => (limit ? undefined : slots.take()),
    during(jobId, lease, run) {
      return limit ? run().finally(() => release(jobId, lease)) : run();
    },
    async close(lease) {
      await Promise.all([...held.keys()].map((jobId) => release(jobId, lease)));
    },
  };
}
