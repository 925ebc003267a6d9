import { Type } from 'typebox';
import { defineJob } from './define-job.ts';

/** Any JSON object. */
const Payload = Type.Object({}, { additionalProperties: true });

/** Answers what it was given: for trying things out, and for measuring what a job costs that does nothing. */
export const echoJob = defineJob({
  type: 'echo',
  enqueuedBy: 'accounts',
  queue: 'default',
  maxAttempts: 3,
  timeoutSeconds: 60,
  retry: { baseMs: 500, capMs: 30_000 },
  payload: Payload,
  result: Payload,
  run: async ({ job }) => job.payload,
});
