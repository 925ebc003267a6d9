import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import type { JobId } from '../domain/ids.ts';
import type { JobType } from '../domain/job-types.ts';
import type { Logger } from '../telemetry/logging.ts';

/** What a handler is given. */
export type JobContext<P> = {
  readonly job: {
    readonly id: JobId;
    readonly type: string;
    readonly payload: P;
    /** The account that it is run for; absent: the installation itself. */
    readonly owner?: string;
    /** 1 for the first. A recovery after a worker's death has the number of the attempt that it repeats. */
    readonly attempt: number;
    /** RFC 3339. */
    readonly enqueuedAt: string;
  };
  /** Aborted when the time is up, the lease is lost or the worker stops: end, and throw. */
  readonly signal: AbortSignal;
  /** Says how far it is, in percent. Recorded at most once a second; the latest is the one that counts. */
  readonly progress: (percent: number, detail?: unknown) => void;
  /** Its lines carry job, attempt and trace. */
  readonly logger: Logger;
  /** The same in every run of this job: for effects outside, which may be asked for more than once. */
  readonly idempotencyKey: string;
};

/** A type of jobs. What is asked for under its name is checked against `payload`, what comes back against `result`. */
export type JobDefinition = JobType & {
  readonly result: TSchema;
  /** Runs the handler. Throws `NoRetryError` for a payload that is not the type's. May return a `SnoozeError`. */
  readonly perform: (context: JobContext<unknown>) => Promise<unknown>;
  /** What is wrong with a result; undefined: nothing. */
  readonly resultError: (result: unknown) => string | undefined;
};

/** Thrown by a handler: another attempt would end the same way, so the job is dead-lettered at once. */
export class NoRetryError extends Error {
  override readonly name: string = 'NoRetryError';
}

/** Thrown by a handler: another attempt makes sense, but none before so long; whoever it asked said so. */
export class RetryLaterError extends Error {
  override readonly name: string = 'RetryLaterError';
  /** Milliseconds from now, 24 h at most: the backoff begins after that, so that not all come again at once. */
  readonly retryAfterMs: number;
  constructor(message: string, options: ErrorOptions & { readonly retryAfterMs: number }) {
    super(message, options);
    this.retryAfterMs = options.retryAfterMs;
  }
}

/** Thrown or returned by a handler: the job is to run again later, and this run was neither an attempt nor a failure. */
export class SnoozeError extends Error {
  override readonly name: string = 'SnoozeError';
  /** Milliseconds since 1970. */
  readonly untilMs: number;
  /** What was asked for, where it was this: clocks differ. */
  readonly delayMs: number | undefined;
  /** Throws a RangeError where that is no time. */
  constructor(when: { readonly untilMs: number } | { readonly delayMs: number }) {
    const untilMs = 'untilMs' in when ? when.untilMs : Date.now() + when.delayMs;
    super(`put off until ${new Date(untilMs).toISOString()}`);
    this.untilMs = untilMs;
    this.delayMs = 'delayMs' in when ? when.delayMs : undefined;
  }
}

/**
 * Defines a type of jobs.
 *
 * @example
 * export const thumbnail = defineJob({
 *   type: 'thumbnail', enqueuedBy: 'accounts', queue: 'default', maxAttempts: 5, timeoutSeconds: 60,
 *   retry: { baseMs: 1_000, capMs: 60_000 },
 *   payload: Type.Object({ blob: Type.String({ maxLength: 300 }) }),
 *   result: Type.Object({ bytes: Type.Integer() }),
 *   run: async ({ job, signal }) => ({ bytes: await shrink(job.payload.blob, signal) }),
 * });
 */
export function defineJob<P extends TSchema, R extends TSchema>(
  job: JobType & {
    readonly payload: P;
    readonly result: R;
    readonly run: (context: JobContext<Static<P>>) => Promise<Static<R> | SnoozeError>;
  },
): JobDefinition {
  const { run, ...definition } = job;
  const payload = Compile(job.payload);
  const result = Compile(job.result);
  const isGiven = (context: JobContext<unknown>): context is JobContext<Static<P>> =>
    payload.Check(context.job.payload);
  return {
    ...definition,
    perform(context) {
      if (!isGiven(context)) {
        const errors = payload.Errors(context.job.payload);
        return Promise.reject(new NoRetryError(`the payload is not a ${job.type}'s: ${describe(errors)}`));
      }
      try {
        return run(context);
      } catch (error) {
        // It is no async function.
        return Promise.reject(error);
      }
    },
    resultError: (value) => (result.Check(value) ? undefined : describe(result.Errors(value))),
  };
}

function describe(errors: readonly { instancePath: string; message: string }[]): string {
  return errors.map(({ instancePath, message }) => `${instancePath || '/'} ${message}`).join('; ');
}
