import type { RawEvent } from '../../domain/event.ts';
import { codec } from '../../domain/events.ts';
import type { Failure } from '../../domain/jobs/events.ts';
import { traceIdOf } from '../../telemetry/tracing.ts';

/** An attempt that failed, as it was recorded. */
export type FailedAttempt = {
  readonly attempt: number;
  /** RFC 3339 */
  readonly at: string;
  readonly error: Omit<Failure, 'stack'>;
  readonly stack?: string;
  readonly worker?: string;
  /** The trace of its run. */
  readonly traceId?: string;
  readonly ignoredAbort: boolean;
  /** It made the job a dead letter. */
  readonly final: boolean;
};

/**
 * Every attempt of a job that failed, in order, those before it was redriven among them. From the job's own stream:
 * nothing there is overwritten, and a row that grows with each attempt would be.
 */
export async function failedAttempts(history: AsyncIterable<RawEvent>): Promise<FailedAttempt[]> {
  const attempts: FailedAttempt[] = [];
  for await (const raw of history) {
    if (raw.type !== 'JobAttemptFailed' && raw.type !== 'JobDeadLettered') continue;
    const event = codec.decode(raw);
    if (event.type !== 'JobAttemptFailed' && event.type !== 'JobDeadLettered') continue;
    const { attempt, error, worker, ignoredAbort = false } = event.data;
    const { stack, ...said } = error;
    const traceId = traceIdOf(event.meta.traceparent);
    attempts.push({
      attempt,
      at: event.meta.at,
      error: said,
      ...(stack === undefined ? {} : { stack }),
      ...(worker === undefined ? {} : { worker }),
      ...(traceId === undefined ? {} : { traceId }),
      ignoredAbort,
      final: event.type === 'JobDeadLettered',
    });
  }
  return attempts;
}
