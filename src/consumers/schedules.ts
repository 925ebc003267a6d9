import { type TickDeps, type TickOutcome, tickSchedule } from '../commands/schedules.ts';
import { parseStreamId, type ScheduleId } from '../domain/ids.ts';
import type { ScheduleTicked } from '../domain/schedules.ts';
import { runScript } from '../eventstore/connections.ts';
import type { OpenEventStore } from '../eventstore/store.ts';
import { OutcomeUnknownError, StoreUnavailableError } from '../eventstore/types.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Hints } from './hints.ts';
import type { Lease } from './leases.ts';
import type { Group } from './ownership.ts';
import { readScript } from './scripts.ts';
import { lookWhenDue } from './when-due.ts';

/** Stored in leases: a name for life. */
export const SCHEDULES_GROUP = 'schedules';

/** Each takes about half a millisecond of the event loop, which others want, too. */
const AT_ONCE = 32;
/** A schedule that can't be dealt with must not hold up the others. */
const PUT_ASIDE_MS = 60_000;
const INSECURE_PAUSE_MS = 100;

const ticksScript = readScript(import.meta.url, './ticks.lua');

export type SchedulesDeps = Omit<TickDeps, 'store'> & {
  readonly store: Pick<OpenEventStore, 'load' | 'commit' | 'writer' | 'keys' | 'clock'>;
  readonly hints: Pick<Hints, 'on'>;
  readonly metrics: Pick<Metrics, 'scheduleDelay' | 'scheduleMissed' | 'scheduleFailures'>;
  readonly logger: Logger;
};

/** Enqueues the runs of schedules when they are due. */
export function schedulesGroup(deps: SchedulesDeps): Group {
  return {
    name: SCHEDULES_GROUP,
    start(lease) {
      const look = () => tickWhatIsDue(deps, lease);
      const { clock } = deps.store;
      return lookWhenDue({ ...deps, clock, topic: 'ticks', what: 'schedules', look }, lease);
    },
  };
}

/** Ticks each schedule that is due. @returns ms until the next is due; 0: there may be more now; -1: none */
async function tickWhatIsDue(deps: SchedulesDeps, lease: Lease): Promise<number | 'lease_lost'> {
  if (!lease.secure()) return INSECURE_PAUSE_MS;
  const due = await readDue(deps, lease);
  if (due === 'lease_lost') return due;
  const looked = performance.now();
  // Side by side: their loads travel together, and so do their commits.
  const settled = await Promise.allSettled(
    due.scheduleIds.map(async (scheduleId) => {
      const outcome = await tickOrPutAside(deps, lease, scheduleId, due.now);
      const now = due.now + performance.now() - looked;
      if (outcome.kind === 'ticked') observe(deps, scheduleId, outcome.ticks, now);
      return outcome.kind;
    }),
  );
  const failed = settled.find((each) => each.status === 'rejected');
  if (failed) throw failed.reason;
  return settled.some((each) => each.status === 'fulfilled' && each.value === 'lease_lost')
    ? 'lease_lost'
    : due.ms;
}

async function readDue(
  { store }: Pick<SchedulesDeps, 'store'>,
  lease: Lease,
): Promise<{ now: number; ms: number; scheduleIds: readonly ScheduleId[] } | 'lease_lost'> {
  const keys = store.keys[lease.partition];
  if (!keys) throw new Error(`there is no partition ${lease.partition}`);
  const reply = await runScript(
    store.writer.redis,
    ticksScript,
    [keys.lease(lease.group), keys.ticks],
    [lease.token, AT_ONCE],
  );
  if (!Array.isArray(reply)) return 'lease_lost';
  const [now, ms, due] = reply;
  const texts: readonly unknown[] = Array.isArray(due) ? due : [];
  return { now: Number(now), ms: Number(ms), scheduleIds: texts.map(scheduleIdOf) };
}

function scheduleIdOf(text: unknown): ScheduleId {
  const id = parseStreamId(String(text), 'sched');
  if (!id) throw new Error(`"${text}" among the ticks is no schedule`);
  return id;
}

async function tickOrPutAside(
  deps: SchedulesDeps,
  lease: Lease,
  scheduleId: ScheduleId,
  now: number,
): Promise<TickOutcome> {
  try {
    return await tickSchedule(deps, { scheduleId, now, lease });
  } catch (err) {
    if (err instanceof StoreUnavailableError || err instanceof OutcomeUnknownError) throw err;
    deps.logger.error({ err, scheduleId }, 'a schedule could not tick; it is tried again in a minute');
    deps.metrics.scheduleFailures.inc();
    const { partition } = lease;
    const ticks = [{ scheduleId, at: now + PUT_ASIDE_MS }];
    const { kind } = await deps.store.commit({ partition, lease, appends: [], ticks });
    return { kind: kind === 'lease_lost' ? kind : 'conflict' };
  }
}

function observe(
  { metrics, logger }: Pick<SchedulesDeps, 'metrics' | 'logger'>,
  scheduleId: ScheduleId,
  ticks: readonly ScheduleTicked[],
  now: number,
): void {
  for (const { tick, jobId, missed } of ticks) {
    if (jobId !== undefined) metrics.scheduleDelay.observe(Math.max(0, now - Date.parse(tick)) / 1000);
    if (missed === 0) continue;
    metrics.scheduleMissed.inc(missed);
    logger.warn({ scheduleId, tick, missed }, 'ticks of a schedule were missed');
  }
}
