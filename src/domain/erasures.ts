import { type Static, Type } from 'typebox';
import type { JobType } from './job-types.ts';

/** Name of the job type that erases a person. Stored: an identifier for life. */
export const ERASE_JOB = 'account.erase';

export const ErasePayload = Type.Object({ accountId: Type.String({ maxLength: 80 }) });
export type ErasePayload = Static<typeof ErasePayload>;

/** The job comes with the account's `AccountErased`, and never alone. It goes on through outages of days. */
export const eraseJobType: JobType & { readonly payload: typeof ErasePayload } = {
  type: ERASE_JOB,
  enqueuedBy: 'nobody',
  queue: 'default',
  maxAttempts: 100,
  timeoutSeconds: 86_400,
  retry: { baseMs: 1_000, capMs: 3_600_000 },
  payload: ErasePayload,
  // Ids.
  personal: false,
};
