import type { Clock } from '../eventstore/clock.ts';
import type { Logger } from '../telemetry/logging.ts';
import { backoffMs, pause } from './backoff.ts';
import type { Hints, HintTopic } from './hints.ts';
import type { Lease } from './leases.ts';
import type { Ended, Running } from './ownership.ts';

/** Longest sleep: a hint about something earlier may have been lost. */
const LOOK_EVERY_MS = 15_000;
const RETRY = { baseMs: 100, capMs: 5_000 };

export type WhenDueDeps = {
  readonly hints: Pick<Hints, 'on'>;
  /** Where it is said that something is due: `<partition> <due, ms since 1970>`. */
  readonly topic: HintTopic;
  /** Deals with what is due. @returns ms until the next look; 0: there is more now; below 0: nothing waits */
  readonly look: () => Promise<number | 'lease_lost'>;
  /** The time as Redis has it. */
  readonly clock: Pick<Clock, 'now'>;
  /** What is looked at, for the log: `timers`. */
  readonly what: string;
  readonly logger: Logger;
};

/**
 * Looks whenever something is due in a lease's partition: sleeps until the time that the last look told, or until a
 * hint tells of an earlier one. How long it sleeps is measured by a clock that nobody sets.
 */
export function lookWhenDue(deps: WhenDueDeps, lease: Lease): Running {
  const stop = new AbortController();
  const signal = AbortSignal.any([stop.signal, lease.lost]);
  return {
    ended: lookUntil(deps, lease, signal),
    handOver: () => stop.abort(),
    stop: () => stop.abort(),
  };
}

async function lookUntil(deps: WhenDueDeps, lease: Lease, signal: AbortSignal): Promise<Ended> {
  const { partition } = lease;
  let earlier = new AbortController();
  /** When the next look is, ms since 1970 by the clock that hints go by, too. */
  let wakeAt = 0;
  const unhint = deps.hints.on(deps.topic, (text) => {
    const [where, dueAt] = text.split(' ').map(Number);
    if (where === partition && (dueAt ?? 0) < wakeAt) earlier.abort();
  });
  try {
    for (let failures = 0; !signal.aborted && lease.held(); ) {
      earlier = new AbortController();
      // Until the answer is there, any hint may be of something that it does not know of.
      wakeAt = Number.POSITIVE_INFINITY;
      try {
        const ms = await deps.look();
        if (ms === 'lease_lost') return { kind: 'lost' };
        failures = 0;
        const sleep = ms < 0 ? LOOK_EVERY_MS : Math.min(ms, LOOK_EVERY_MS);
        wakeAt = deps.clock.now().getTime() + sleep;
        if (sleep > 0) await pause(sleep, AbortSignal.any([signal, earlier.signal]));
      } catch (err) {
        failures++;
        if (failures === 1) deps.logger.warn({ err, partition }, `${deps.what} could not be looked at`);
        await pause(backoffMs(failures, RETRY, 0.5 + Math.random() / 2), signal);
      }
    }
    return { kind: lease.lost.aborted ? 'lost' : 'done' };
  } finally {
    unhint();
  }
}
