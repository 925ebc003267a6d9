import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';

/** A live group this far behind is held up a little; this far, it needs the machine. */
const A_LITTLE_S = 0.5;
const MUCH_S = 2;
/** A measurement is good for so long. */
const FRESH_MS = 5_000;
const LONGEST_MS = 1_000;

/** How work in the background makes room for what is live: the further that is behind, the longer the pauses. */
export function createPace(): {
  /** After each piece of work that took so many ms. */
  readonly pace: (ms: number) => Promise<void>;
  readonly onLag: (seconds: number) => void;
} {
  let lag = { seconds: 0, at: 0 };
  return {
    onLag(seconds) {
      lag = { seconds, at: performance.now() };
    },
    async pace(ms) {
      const seconds = performance.now() - lag.at < FRESH_MS ? lag.seconds : 0;
      if (seconds < A_LITTLE_S) await nextTurn();
      else await sleep(Math.min(ms * (seconds < MUCH_S ? 1 : 4), LONGEST_MS));
    },
  };
}

/**
 * Runs at most so many at once; the others wait for their turn, in order. Whose signal comes while he waits does not run:
 * undefined.
 */
export function inTurns(
  atOnce: number,
): <T>(run: () => Promise<T>, signal: AbortSignal) => Promise<T | undefined> {
  const waiting: (() => void)[] = [];
  let running = 0;

  function turn(signal: AbortSignal): Promise<boolean> {
    return new Promise((resolve) => {
      const comes = () => {
        signal.removeEventListener('abort', leaves);
        resolve(true);
      };
      const leaves = () => {
        waiting.splice(waiting.indexOf(comes), 1);
        resolve(false);
      };
      waiting.push(comes);
      signal.addEventListener('abort', leaves, { once: true });
    });
  }

  return async (run, signal) => {
    if (signal.aborted) return undefined;
    if (running < atOnce) running++;
    else if (!(await turn(signal))) return undefined;
    try {
      return await run();
    } finally {
      const next = waiting.shift();
      if (next) next();
      else running--;
    }
  };
}
