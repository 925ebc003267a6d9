/** How much runs at once in this process, over all lanes; who waits longest is next, so that lanes get their turns. */
export type Slots = {
  /** Resolves with the slot's release; undefined when the signal comes first. */
  acquire(signal: AbortSignal): Promise<(() => void) | undefined>;
  /** A slot that is free right now. */
  take(): (() => void) | undefined;
  readonly free: number;
};

/** @param size most at once */
export function createSlots(size: number): Slots {
  let free = size;
  const waiting: ((granted: boolean) => void)[] = [];

  function release(): void {
    const next = waiting.shift();
    if (next) next(true);
    else free++;
  }

  function once(): () => void {
    let released = false;
    return () => {
      if (!released) release();
      released = true;
    };
  }

  function take(): (() => void) | undefined {
    // While somebody waits none is free: a slot that is given back goes to who waits.
    if (free === 0) return undefined;
    free--;
    return once();
  }

  return {
    get free() {
      return free;
    },
    take,
    async acquire(signal) {
      if (signal.aborted) return undefined;
      const now = take();
      if (now) return now;
      const granted = await new Promise<boolean>((resolve) => {
        const abort = () => {
          waiting.splice(waiting.indexOf(settle), 1);
          resolve(false);
        };
        const settle = (yes: boolean) => {
          signal.removeEventListener('abort', abort);
          resolve(yes);
        };
        waiting.push(settle);
        signal.addEventListener('abort', abort, { once: true });
      });
      return granted ? once() : undefined;
    },
  };
}
