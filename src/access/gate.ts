/** The queue before costly work is full. Nothing was done; come again. */
export class TooBusyError extends Error {
  override readonly name = 'TooBusyError';
}

/**
 * Lets at most `concurrency` tasks run at once and at most `queue` wait; whoever comes beyond that is turned
 * away with `TooBusyError` at once, instead of being answered after its client has given up.
 */
export function createGate(concurrency: number, queue: number) {
  let running = 0;
  const waiting: (() => void)[] = [];
  return async <T>(task: () => Promise<T>): Promise<T> => {
    if (running >= concurrency) {
      if (waiting.length >= queue) throw new TooBusyError('too many tasks wait already');
      await new Promise<void>((resolve) => waiting.push(resolve));
    } else {
      running++;
    }
    try {
      return await task();
    } finally {
      // A slot is handed on, never freed in between, or a newcomer could overtake who waits.
      const next = waiting.shift();
      if (next) next();
      else running--;
    }
  };
}
export type Gate = ReturnType<typeof createGate>;
