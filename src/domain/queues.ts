import { type Static, Type } from 'typebox';
import { accept, type Decision, type Fold } from './decision.ts';
import type { FoldMeta } from './event.ts';
import { JobQueue } from './jobs/events.ts';

export const QueuePaused = Type.Object({ queue: JobQueue });
export const QueueResumed = Type.Object({ queue: JobQueue });

export type QueueEvent =
  | { type: 'QueuePaused'; data: Static<typeof QueuePaused> }
  | { type: 'QueueResumed'; data: Static<typeof QueueResumed> };

/** Nothing of a paused queue is begun, in any process; what runs ends, and more may be enqueued. */
export type Queue =
  | { readonly phase: 'open' }
  /** `since`: RFC 3339. */
  | { readonly phase: 'paused'; readonly since: string };

export const queueFold: Fold<Queue, QueueEvent & FoldMeta> = {
  fold: 1,
  initial: { phase: 'open' },
  evolve(_state, event) {
    switch (event.type) {
      case 'QueuePaused':
        return { phase: 'paused', since: event.at };
      case 'QueueResumed':
        return { phase: 'open' };
    }
  },
};

export function pauseQueue(state: Queue, queue: JobQueue): Decision<QueueEvent> {
  return state.phase === 'paused' ? accept() : accept({ type: 'QueuePaused', data: { queue } });
}

export function resumeQueue(state: Queue, queue: JobQueue): Decision<QueueEvent> {
  return state.phase === 'open' ? accept() : accept({ type: 'QueueResumed', data: { queue } });
}
