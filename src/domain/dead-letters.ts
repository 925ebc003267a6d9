import { type Static, Type } from 'typebox';
import { type JobType, jobOf } from './job-types.ts';
import { DeadLetterReason, type JobEnqueued } from './jobs/events.ts';

/** What operators do with dead letters. `redrive`: run their jobs again. `discard`: give them up. */
export type Settling = 'redrive' | 'discard';

const Text = (maxLength: number) => Type.Optional(Type.String({ maxLength }));
const Time = Type.Optional(Type.String({ maxLength: 40 }));

/** Which letters: all that is named must be so. Times are of when a letter died. */
const Filter = Type.Object({
  ids: Type.Optional(Type.Array(Type.String({ maxLength: 80 }), { maxItems: 1000 })),
  type: Text(64),
  queue: Text(64),
  fingerprint: Text(64),
  /** Of requests from before 'lanes'. */
  orderingKey: Text(200),
  /** Any of these hashes of ordering keys. */
  lanes: Type.Optional(Type.Array(Type.String({ maxLength: 64 }), { maxItems: 100_000 })),
  owner: Text(80),
  reason: Type.Optional(DeadLetterReason),
  from: Time,
  to: Time,
});

export const SettlingPayload = Type.Object({
  filter: Filter,
  /**
   * Highest seq of each partition (by index) when it was asked for: only what was dead by then is settled. By the log's
   * order, as clocks of workers may differ, and what is redriven may die again.
   */
  heads: Type.Array(Type.Integer({ minimum: 0 }), { maxItems: 1024 }),
  /** Letters a second. */
  rate: Type.Integer({ minimum: 1, maximum: 1000 }),
  reason: Type.String({ maxLength: 500 }),
  /** Who asked, and in the course of what: the same is said of each letter. */
  actor: Type.String({ maxLength: 200 }),
  correlation: Type.String({ maxLength: 100 }),
  /** The operation's record, of which each letter's event follows. Absent: an older release asked. */
  operation: Type.Optional(Type.String({ maxLength: 80 })),
});
export type SettlingPayload = Static<typeof SettlingPayload>;

/** What the job says while it runs, and yields. `failed`: letters that were not dead any more when their turn came. */
export const SettlingResult = Type.Object({
  done: Type.Integer({ minimum: 0 }),
  failed: Type.Integer({ minimum: 0 }),
  total: Type.Integer({ minimum: 0 }),
});
export type SettlingResult = Static<typeof SettlingResult>;

const common = {
  enqueuedBy: 'nobody',
  queue: 'default',
  maxAttempts: 10,
  timeoutSeconds: 86_400,
  retry: { baseMs: 1_000, capMs: 60_000 },
  payload: SettlingPayload,
  personal: false,
} as const;

/** The types of the jobs that settle many letters. Names are stored: identifiers for life. */
export const settlingJobTypes: Readonly<
  Record<Settling, JobType & { readonly payload: typeof SettlingPayload }>
> = {
  redrive: { ...common, type: 'dead-letters.redrive' },
  discard: { ...common, type: 'dead-letters.discard' },
};

/** The job that settles letters: ahead of others, as an operator waits for it. */
export function settlingJob(settling: Settling, payload: SettlingPayload): Static<typeof JobEnqueued> {
  return jobOf(settlingJobTypes[settling], payload, { priority: 'high' });
}
