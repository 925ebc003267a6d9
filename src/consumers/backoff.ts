/**
 * Capped exponential backoff with full jitter: anywhere between nothing and base × 2^(n − 1), so that what
 * failed together does not come again together.
 * Source: Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
 *
 * @param failures 1 for the first
 * @param random 0 ≤ random < 1
 */
export function backoffMs(
  failures: number,
  limits: { readonly baseMs: number; readonly capMs: number },
  random: number,
): number {
  const ceiling = Math.min(limits.capMs, limits.baseMs * 2 ** Math.min(failures - 1, 40));
  return Math.floor(random * ceiling);
}

/** Waits; less when the signal comes first. Never rejects. */
export function pause(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted || ms <= 0) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener('abort', done);
  });
}

/**
 * A signal that follows others until `stop`. AbortSignal.any would tie it to them for their whole life, once
 * anyone listens: too long for a job's signal that follows its lane's.
 */
export function follow(...sources: readonly AbortSignal[]): {
  readonly signal: AbortSignal;
  readonly stop: () => void;
} {
  const controller = new AbortController();
  const abort = (event: Event) => {
    if (event.target instanceof AbortSignal) controller.abort(event.target.reason);
  };
  for (const source of sources) {
    if (source.aborted) controller.abort(source.reason);
    else source.addEventListener('abort', abort);
  }
  return {
    signal: controller.signal,
    stop() {
      for (const source of sources) source.removeEventListener('abort', abort);
    },
  };
}

/** The promise's outcome, or undefined as soon as the signal comes; what happens later is not looked at. */
export function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T | undefined> {
  if (signal.aborted) {
    promise.catch(() => {});
    return Promise.resolve(undefined);
  }
  return new Promise((resolve, reject) => {
    const aborted = () => resolve(undefined);
    signal.addEventListener('abort', aborted);
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', aborted));
  });
}
