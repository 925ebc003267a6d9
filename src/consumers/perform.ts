import type { JobRun } from '../commands/jobs/runs.ts';
import type { Logger } from '../telemetry/logging.ts';
import { follow } from './backoff.ts';
import type { JobDefinition } from './define-job.ts';
import { JobTimeoutError } from './normalise.ts';

/** How long a handler that was told to end may take to do so, before its job goes on without it. */
const GRACE_MS = 5_000;

export type Performed =
  | { readonly kind: 'returned'; readonly value: unknown }
  | { readonly kind: 'threw'; readonly error: unknown }
  /** It ended, or was given up, because it had to: this says nothing about the job. */
  | { readonly kind: 'aborted' };

/** Runs a handler until it ends, its time is up or `signal` comes. Never rejects. */
export async function perform(
  definition: JobDefinition,
  run: JobRun,
  around: {
    readonly signal: AbortSignal;
    readonly logger: Logger;
    readonly progress: (percent: number, detail?: unknown) => void;
  },
): Promise<Performed> {
  const { spec, taken, attempt } = run;
  const timeout = new AbortController();
  const timer = setTimeout(() => {
    timeout.abort(new JobTimeoutError(`the attempt took longer than ${spec.timeoutSeconds} s`));
  }, spec.timeoutSeconds * 1000);
  const { signal, stop } = follow(around.signal, timeout.signal);

  const context = {
    job: {
      id: taken.jobId,
      type: spec.type,
      payload: spec.payload,
      ...(spec.owner ? { owner: spec.owner } : {}),
      attempt,
      enqueuedAt: spec.enqueuedAt,
    },
    signal,
    progress: around.progress,
    logger: around.logger,
    idempotencyKey: taken.jobId,
  };
  try {
    const handler: Promise<Performed> = definition.perform(context).then(
      (value) => ({ kind: 'returned', value }),
      (error: unknown) => ({ kind: 'threw', error }),
    );
    const ended = await Promise.race([handler, givenUp(signal)]);
    if (timeout.signal.aborted && !around.signal.aborted) {
      return { kind: 'threw', error: timeout.signal.reason };
    }
    // A result that came in spite of the abort is one: there is no use in computing it again.
    return around.signal.aborted && ended.kind !== 'returned' ? { kind: 'aborted' } : ended;
  } finally {
    clearTimeout(timer);
    stop();
  }
}

function givenUp(signal: AbortSignal): Promise<Performed> {
  return new Promise((resolve) => {
    const begin = () => setTimeout(() => resolve({ kind: 'aborted' }), GRACE_MS).unref();
    if (signal.aborted) begin();
    else signal.addEventListener('abort', begin, { once: true });
  });
}
