import { type Static, Type } from 'typebox';
import { type JobType, jobOf } from './job-types.ts';
import type { JobEnqueued } from './jobs/events.ts';

/** What is to be looked at: a read model, all of it or a part. */
export const VerificationPayload = Type.Object({
  projection: Type.String({ maxLength: 64 }),
  /** Only rows that events of this time or later concern. */
  since: Type.Optional(Type.String({ maxLength: 40 })),
  /** Only about this part of the rows. */
  sample: Type.Optional(Type.Number({ exclusiveMinimum: 0, maximum: 1 })),
});
export type VerificationPayload = Static<typeof VerificationPayload>;

/** What was looked at, and what is not as it must be: how much, and the first of it. */
export const VerificationResult = Type.Object({
  rows: Type.Integer({ minimum: 0 }),
  events: Type.Integer({ minimum: 0 }),
  wrong: Type.Integer({ minimum: 0 }),
  findings: Type.Array(Type.Object({ kind: Type.String(), where: Type.String(), detail: Type.String() })),
});
export type VerificationResult = Static<typeof VerificationResult>;

/** The job that verifies. Its name is stored: an identifier for life. */
export const verificationJobType = {
  type: 'projection.verify',
  enqueuedBy: 'nobody',
  queue: 'default',
  maxAttempts: 3,
  timeoutSeconds: 86_400,
  retry: { baseMs: 1_000, capMs: 60_000 },
  payload: VerificationPayload,
  personal: false,
} as const satisfies JobType;

export function verificationJob(payload: VerificationPayload): Static<typeof JobEnqueued> {
  return jobOf(verificationJobType, payload);
}
