import { queueDepths } from '../consumers/queue-depths.ts';
import { queueStream } from '../domain/ids.ts';
import type { JobQueue } from '../domain/jobs/events.ts';
import { queueFold } from '../domain/queues.ts';
import type { QueueView } from '../http/queues.ts';
import type { countScheduled } from '../projections/jobs/queries.ts';
import type { Parts } from './base.ts';

/** Queues as operators see them: their states, what is in their streams, and what waits for a time. */
export async function readQueues(
  { store }: Pick<Parts, 'store'>,
  names: readonly JobQueue[],
  scheduledBy: ReturnType<typeof countScheduled>,
): Promise<QueueView[]> {
  const [depths, scheduled, states] = await Promise.all([
    queueDepths(store.reader.redis, store.keys, names),
    scheduledBy,
    Promise.all(names.map((name) => store.load(queueStream(name), queueFold))),
  ]);
  return names.map((id, index) => {
    const { waiting = 0, parked = 0, running = 0, oldest } = depths.get(id) ?? {};
    const { state, version } = states[index] ?? { state: queueFold.initial, version: 0 };
    return {
      id,
      paused: state.phase === 'paused',
      ...(state.phase === 'paused' ? { pausedSince: state.since } : {}),
      waiting,
      parked,
      running,
      scheduled: scheduled.get(id) ?? 0,
      ...(oldest === undefined ? {} : { oldestWaitingAt: new Date(oldest).toISOString() }),
      version,
    };
  });
}
