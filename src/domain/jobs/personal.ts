import type { Static } from 'typebox';
import type { Failure, JobEnqueued } from './events.ts';

/** Seals what a job says of its owner, and opens it again. Of one person: another's texts stay closed. */
export type Sealer = {
  text(text: string): string;
  json(value: unknown): unknown;
  /** Everything sealed in a value, however deep; the rest is given back as it is. */
  open(value: unknown): unknown;
};

/** For jobs that are nobody's, or of types that hold nothing about persons. */
export const PLAIN: Sealer = { text: (text) => text, json: (value) => value, open: (value) => value };

/** A job as its events may hold it: its payload, and all that its owner has named it by, sealed. */
export function sealedJob(
  job: Static<typeof JobEnqueued>,
  { text, json }: Pick<Sealer, 'text' | 'json'>,
): Static<typeof JobEnqueued> {
  const { callbackUrl, orderingKey, concurrencyKey } = job;
  return {
    ...job,
    payload: json(job.payload),
    ...(callbackUrl === undefined ? {} : { callbackUrl: text(callbackUrl) }),
    ...(orderingKey === undefined ? {} : { orderingKey: text(orderingKey) }),
    ...(concurrencyKey === undefined ? {} : { concurrencyKey: text(concurrencyKey) }),
  };
}

/** What went wrong, without a word of the payload: by name and fingerprint failures are told apart all the same. */
export function sealedFailure(failure: Failure, { text }: Pick<Sealer, 'text'>): Failure {
  const { message, stack } = failure;
  return {
    ...failure,
    message: text(message),
    ...(stack === undefined ? {} : { stack: text(stack) }),
  };
}
