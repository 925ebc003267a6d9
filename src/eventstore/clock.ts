import type { Connection } from './connections.ts';

const ASK_EVERY_MS = 10_000;

/**
 * The time as Redis has it. Timers become due by that clock, so whatever is to be due later is reckoned by it, too: the
 * clock of a process may be minutes off, or be set while it runs.
 */
export type Clock = {
  now(): Date;
  /** Asks Redis now. */
  refresh(): Promise<void>;
  close(): void;
};

/**
 * Asks Redis for its TIME at every connect and now and then, and counts on from there by a clock that nobody sets; while
 * Redis is away, too. Off by half a round trip at most. Before the first answer it is the clock of the process.
 */
export function createClock(connection: Connection, everyMs = ASK_EVERY_MS): Clock {
  let offset = performance.timeOrigin;
  const refresh = async () => {
    const asked = performance.now();
    const [seconds = Number.NaN, micros = Number.NaN] = (await connection.redis.time()).map(Number);
    const answered = performance.now();
    const time = seconds * 1000 + micros / 1000;
    if (Number.isFinite(time)) offset = time - (asked + answered) / 2;
  };
  // While Redis is away the last answer stands.
  const background = () => {
    if (connection.runId() !== undefined) refresh().catch(() => {});
  };
  connection.onReady(background);
  const timer = setInterval(background, everyMs).unref();
  return {
    now: () => new Date(offset + performance.now()),
    refresh,
    close: () => clearInterval(timer),
  };
}
