import type { Kysely } from 'kysely';
import type { Position } from '../domain/position.ts';
import type { CheckpointWaits, WaitOutcome } from '../eventstore/waits.ts';
import type { Database } from './database.ts';
import { anyParked } from './parked.ts';

export type ReadAtLeastDeps = {
  readonly db: Kysely<Database>;
  /** Of `createCheckpointWaits`. */
  readonly waitFor: CheckpointWaits['waitFor'];
};

/**
 * `ok`: the read model includes the events at all positions. `behind`: not within the time. `lost`: a position
 * was lost with Redis and will never come. `parked`: it came, but the projection could not apply it.
 */
export type ReadAtLeast = 'ok' | 'behind' | 'lost' | 'parked';

/**
 * Waits until a read model includes the events at all of these positions, or says why it does not. What no
 * waiting would change (`lost`, `parked`) is said rather than `behind`, `lost` at once.
 * @param wait.group `groupOf(projection)`
 */
export async function readAtLeast(
  deps: ReadAtLeastDeps,
  wait: {
    readonly group: string;
    readonly positions: readonly Position[];
    readonly timeoutMs: number;
    readonly signal?: AbortSignal;
  },
): Promise<ReadAtLeast> {
  const { group, positions, timeoutMs } = wait;
  const done = new AbortController();
  const signal = wait.signal ? AbortSignal.any([wait.signal, done.signal]) : done.signal;
  const lost = Promise.withResolvers<WaitOutcome[]>();
  const waits = positions.map(async (position) => {
    const outcome = await deps.waitFor({ group, position, timeoutMs, signal });
    if (outcome === 'lost') lost.resolve([outcome]);
    return outcome;
  });
  try {
    const outcomes = await Promise.race([lost.promise, Promise.all(waits)]);
    if (outcomes.includes('lost')) return 'lost';
    if (positions.length > 0 && (await anyParked(deps.db, group, positions))) return 'parked';
    return outcomes.includes('timeout') ? 'behind' : 'ok';
  } finally {
    // Nobody waits for the others any more.
    done.abort();
  }
}
