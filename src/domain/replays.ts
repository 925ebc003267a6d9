import { type Static, Type } from 'typebox';
import { type JobType, jobOf } from './job-types.ts';
import type { JobEnqueued } from './jobs/events.ts';

/** Whether a replay enqueues what its reactor decides on, or only counts it. */
export const SideEffects = Type.Enum(['off', 'on']);
export type SideEffects = Static<typeof SideEffects>;

/** Events of a partition with seqs above `after`, up to `upTo`. */
const Range = Type.Object({
  partition: Type.Integer({ minimum: 0 }),
  after: Type.Integer({ minimum: 0 }),
  upTo: Type.Integer({ minimum: 0 }),
});
const Time = Type.String({ maxLength: 40 });

/** What was confirmed: the events of these types that were decided from `from` on, and before `to`, within the ranges. */
export const ReplayPayload = Type.Object({
  /** A reactor's name. */
  group: Type.String({ maxLength: 64 }),
  types: Type.Array(Type.String({ maxLength: 64 }), { maxItems: 100 }),
  from: Time,
  to: Time,
  ranges: Type.Array(Range, { maxItems: 1024 }),
  /** How many events that was. */
  events: Type.Integer({ minimum: 0 }),
  sideEffects: SideEffects,
  /** Events a second, of those that anything follows from. */
  rate: Type.Integer({ minimum: 1, maximum: 10_000 }),
  /** The plan that was confirmed. */
  digest: Type.String({ maxLength: 64 }),
});
export type ReplayPayload = Static<typeof ReplayPayload>;

/** What the job says while it runs, and yields. `jobs`: those that were enqueued, or would have been. */
export const ReplayResult = Type.Object({
  sideEffects: SideEffects,
  events: Type.Integer({ minimum: 0 }),
  jobs: Type.Integer({ minimum: 0 }),
});
export type ReplayResult = Static<typeof ReplayResult>;

/** The job that replays. Its name is stored: an identifier for life. */
export const replayJobType = {
  type: 'replay',
  enqueuedBy: 'nobody',
  queue: 'default',
  maxAttempts: 10,
  timeoutSeconds: 86_400,
  retry: { baseMs: 1_000, capMs: 60_000 },
  payload: ReplayPayload,
  personal: false,
} as const satisfies JobType;

/** Ahead of others, as an operator waits for it. */
export function replayJob(payload: ReplayPayload): Static<typeof JobEnqueued> {
  return jobOf(replayJobType, payload, { priority: 'high' });
}
