import type { Redis } from 'ioredis';
import { runScript } from '../eventstore/connections.ts';
import type { PartitionKeys } from '../eventstore/partitions.ts';
import type { Logger } from '../telemetry/logging.ts';
import { backoffMs, pause } from './backoff.ts';
import type { Hints } from './hints.ts';
import type { Lease } from './leases.ts';
import type { Ended, Group, Running } from './ownership.ts';
import { readScript } from './scripts.ts';
import { PRIORITIES } from './take.ts';

/** Stored in leases: a name for life. */
export const TIMERS_GROUP = 'timers';

const AT_ONCE = 100;
/** Longest sleep: a hint about an earlier timer may have been lost. */
const LOOK_EVERY_MS = 15_000;
const FULL_PAUSE_MS = 500;
const RETRY = { baseMs: 100, capMs: 5_000 };

export const promoteScript = readScript(import.meta.url, './promote.lua');

type TimerDeps = {
  readonly redis: Redis;
  readonly keys: readonly PartitionKeys[];
  readonly queues: readonly string[];
  /** While Redis is too full for starts, nothing is promoted. */
  readonly refusesStarts: () => boolean;
  readonly hints: Hints;
  readonly logger: Logger;
};

/** Turns timers into work when they are due. Sleeps until the next one, or until a hint tells of an earlier. */
export function timersGroup(deps: TimerDeps): Group {
  return { name: TIMERS_GROUP, start: (lease) => startTimers(deps, lease) };
}

function startTimers(deps: TimerDeps, lease: Lease): Running {
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, lease.lost]);
  return {
    ended: promoteUntil(deps, lease, signal),
    handOver: () => stop.abort(),
    stop: () => stop.abort(),
  };
}

async function promoteUntil(deps: TimerDeps, lease: Lease, signal: AbortSignal): Promise<Ended> {
  const { partition } = lease;
  const keys = deps.keys[partition];
  if (!keys) throw new Error(`there is no partition ${partition}`);
  let earlier = new AbortController();
  /** When the next look is, ms since 1970 by this process' clock: a hint may be off by the difference, no more. */
  let wakeAt = 0;
  const unhint = deps.hints.on('timers', (text) => {
    const [where, dueAt] = text.split(' ').map(Number);
    if (where === partition && (dueAt ?? 0) < wakeAt) earlier.abort();
  });
  try {
    for (let failures = 0; !signal.aborted && lease.held(); ) {
      earlier = new AbortController();
      // Until the answer is there, any hint may be of a timer that it does not know of.
      wakeAt = Number.POSITIVE_INFINITY;
      try {
        const ms = deps.refusesStarts() ? FULL_PAUSE_MS : await promote(deps.redis, keys, deps.queues, lease);
        if (ms === 'lease_lost') return { kind: 'lost' };
        failures = 0;
        const sleep = ms < 0 ? LOOK_EVERY_MS : Math.min(ms, LOOK_EVERY_MS);
        wakeAt = Date.now() + sleep;
        if (sleep > 0) await pause(sleep, AbortSignal.any([signal, earlier.signal]));
      } catch (err) {
        failures++;
        if (failures === 1) deps.logger.warn({ err, partition }, 'timers could not be looked at');
        await pause(backoffMs(failures, RETRY, 0.5 + Math.random() / 2), signal);
      }
    }
    return { kind: lease.lost.aborted ? 'lost' : 'done' };
  } finally {
    unhint();
  }
}

/** Moves what is due. @returns ms until the next timer; 0: there is more now; -1: none */
export async function promote(
  redis: Redis,
  keys: PartitionKeys,
  queues: readonly string[],
  lease: Pick<Lease, 'group' | 'token'>,
): Promise<number | 'lease_lost'> {
  const lanes = queues.flatMap((queue) => PRIORITIES.map((priority) => ({ queue, priority })));
  const reply = await runScript(
    redis,
    promoteScript,
    [
      keys.lease(lease.group),
      keys.timers,
      keys.timerWork,
      ...lanes.map(({ queue, priority }) => keys.work(queue, priority)),
    ],
    [lease.token, AT_ONCE, ...lanes.map(({ queue, priority }) => `${queue} ${priority}`)],
  );
  if (!Array.isArray(reply)) return 'lease_lost';
  return Number(reply[1]);
}
