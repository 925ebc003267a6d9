import type { Static } from 'typebox';
import type { JobId } from '../domain/ids.ts';
import type { JobEnqueued } from '../domain/jobs/events.ts';
import { holdsItsLane, type Job } from '../domain/jobs/state.ts';
import type { FreedLane } from '../eventstore/types.ts';
import type { CommandDeps } from './handle.ts';

/** 128 bits: two keys never share a hash in practice, and it is short in Redis' keys. */
const HASH_LENGTH = 32;

/**
 * A job with what stands for its keys in Redis: HMACs of whose it is and the keys, as these may be an email. Two
 * owners' keys are never the same.
 */
export function withHashes(
  deps: Pick<CommandDeps, 'hmac'>,
  owner: string | undefined,
  job: Static<typeof JobEnqueued>,
): Static<typeof JobEnqueued> {
  const { orderingKey, concurrencyKey, queue } = job;
  return {
    ...job,
    ...(orderingKey === undefined ? {} : { lane: laneOf(deps, owner, queue, orderingKey) }),
    ...(concurrencyKey === undefined ? {} : { slots: hashOf(deps, 'slots', [owner ?? '', concurrencyKey]) }),
  };
}

/** What stands for an ordering key in a queue. */
export function laneOf(
  deps: Pick<CommandDeps, 'hmac'>,
  owner: string | undefined,
  queue: string,
  orderingKey: string,
): string {
  return hashOf(deps, 'lane', [owner ?? '', queue, orderingKey]);
}

function hashOf({ hmac }: Pick<CommandDeps, 'hmac'>, purpose: string, parts: readonly string[]): string {
  return hmac(purpose, parts.join('\n')).slice(0, HASH_LENGTH);
}

/** Where all that has this hash lives. */
export function partitionOfHash(hash: string, partitions: number): number {
  return Number.parseInt(hash.slice(0, 8), 16) % partitions;
}

/** The lane that a commit frees which leaves a job in `state`; none where the job goes on to hold it. */
export function freedBy(
  jobId: JobId,
  keyed: { readonly queue: string; readonly lane?: string | undefined },
  state: Job,
): { freed?: readonly FreedLane[] } {
  const { queue, lane } = keyed;
  return lane === undefined || holdsItsLane(state) ? {} : { freed: [{ queue, lane, jobId }] };
}
