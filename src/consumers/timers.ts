import type { Redis } from 'ioredis';
import type { Clock } from '../eventstore/clock.ts';
import { runScript } from '../eventstore/connections.ts';
import type { PartitionKeys } from '../eventstore/partitions.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Hints } from './hints.ts';
import type { Lease } from './leases.ts';
import type { Group, Running } from './ownership.ts';
import { readScript } from './scripts.ts';
import { PRIORITIES } from './take.ts';
import { lookWhenDue } from './when-due.ts';

/** Stored in leases: a name for life. */
export const TIMERS_GROUP = 'timers';

const AT_ONCE = 100;
const FULL_PAUSE_MS = 500;

export const promoteScript = readScript(import.meta.url, './promote.lua');

type TimerDeps = {
  readonly redis: Redis;
  readonly keys: readonly PartitionKeys[];
  readonly queues: readonly string[];
  /** While Redis is too full for starts, nothing is promoted. */
  readonly refusesStarts: () => boolean;
  readonly hints: Hints;
  readonly clock: Pick<Clock, 'now'>;
  readonly metrics: Pick<Metrics, 'timerLag'>;
  readonly logger: Logger;
};

/** Turns timers into work when they are due. */
export function timersGroup(deps: TimerDeps): Group {
  return { name: TIMERS_GROUP, start: (lease) => startTimers(deps, lease) };
}

function startTimers(deps: TimerDeps, lease: Lease): Running {
  const keys = deps.keys[lease.partition];
  if (!keys) throw new Error(`there is no partition ${lease.partition}`);
  const look = async () =>
    deps.refusesStarts() ? FULL_PAUSE_MS : promote(deps.redis, keys, deps.queues, lease, deps.metrics);
  return lookWhenDue({ ...deps, topic: 'timers', what: 'timers', look }, lease);
}

/** Moves what is due. @returns ms until the next timer; 0: there is more now; -1: none */
export async function promote(
  redis: Redis,
  keys: PartitionKeys,
  queues: readonly string[],
  lease: Pick<Lease, 'group' | 'token'>,
  metrics?: Pick<Metrics, 'timerLag'>,
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
  const [, ms, late]: unknown[] = reply;
  for (const lateMs of Array.isArray(late) ? late : []) metrics?.timerLag.observe(Number(lateMs) / 1000);
  return Number(ms);
}
