import { OutcomeUnknownError, StoreUnavailableError } from '../eventstore/types.ts';
import type { Logger } from '../telemetry/logging.ts';
import { backoffMs, pause } from './backoff.ts';

const RETRY = { baseMs: 50, capMs: 2_000 };

/**
 * Tries again while the store is away, until the signal. Undefined: the signal came first. Any other error is
 * thrown.
 */
export async function persistently<T>(
  logger: Pick<Logger, 'warn'> | (() => Pick<Logger, 'warn'>),
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T | undefined> {
  for (let failures = 1; ; failures++) {
    try {
      return await work();
    } catch (error) {
      const away = error instanceof StoreUnavailableError || error instanceof OutcomeUnknownError;
      if (!away) throw error;
      if (signal.aborted) return undefined;
      if (failures === 1)
        (typeof logger === 'function' ? logger() : logger).warn(
          { err: error },
          'the store is away; trying again',
        );
      await pause(backoffMs(failures, RETRY, 0.5 + Math.random() / 2), signal);
      if (signal.aborted) return undefined;
    }
  }
}
