import { OutcomeUnknownError, StoreUnavailableError } from '../eventstore/types.ts';
import type { Logger } from '../telemetry/logging.ts';
import { backoffMs, pause } from './backoff.ts';

const RETRY = { baseMs: 50, capMs: 2_000 };

/**
 * Tries again while the store is away, until the signal. Undefined: the signal came first. Any other error is
 * thrown.
 */
export function persistently<T>(
  logger: Pick<Logger, 'warn'> | (() => Pick<Logger, 'warn'>),
  signal: AbortSignal,
  work: () => Promise<T>,
): Promise<T | undefined>;
/** The same; `then` makes something else of it, without a promise of its own. */
export function persistently<T, R>(
  logger: Pick<Logger, 'warn'> | (() => Pick<Logger, 'warn'>),
  signal: AbortSignal,
  work: () => Promise<T>,
  then: (done: T | undefined) => R,
): Promise<R>;
export function persistently<T>(
  logger: Pick<Logger, 'warn'> | (() => Pick<Logger, 'warn'>),
  signal: AbortSignal,
  work: () => Promise<T>,
  then: (done: T | undefined) => unknown = (done) => done,
): Promise<unknown> {
  return work().then(then, async (error: unknown) => {
    if (!isAway(error)) throw error;
    if (signal.aborted) return then(undefined);
    const its = typeof logger === 'function' ? logger() : logger;
    its.warn({ err: error }, 'the store is away; trying again');
    return then(await again(signal, work));
  });
}

async function again<T>(signal: AbortSignal, work: () => Promise<T>): Promise<T | undefined> {
  for (let failures = 1; ; failures++) {
    await pause(backoffMs(failures, RETRY, 0.5 + Math.random() / 2), signal);
    if (signal.aborted) return undefined;
    try {
      return await work();
    } catch (error) {
      if (!isAway(error)) throw error;
      if (signal.aborted) return undefined;
    }
  }
}

function isAway(error: unknown): boolean {
  return error instanceof StoreUnavailableError || error instanceof OutcomeUnknownError;
}
