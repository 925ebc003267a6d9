import type { Connection } from './connections.ts';

const ASK_EVERY_MS = 10_000;
/** By how much the clocks of two machines may drift apart, in ms per ms: far more than they do. */
const DRIFT = 0.0005;

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
 * Redis is away, too. Before the first answer it is the clock of the process.
 *
 * An answer says between which two times Redis' clock was read, no more. One that took long, as Redis hung, moves what
 * is known from better ones only as far as it must: jobs would become due seconds early or late otherwise, and what was
 * enqueued for now would stand before what is due.
 */
export function createClock(connection: Connection, everyMs = ASK_EVERY_MS): Clock {
  let offset = performance.timeOrigin;
  let offBy = Number.POSITIVE_INFINITY;
  let knownAt = 0;
  const refresh = async () => {
    const asked = performance.now();
    const [seconds = Number.NaN, micros = Number.NaN] = (await connection.redis.time()).map(Number);
    const answered = performance.now();
    const time = seconds * 1000 + micros / 1000;
    if (!Number.isFinite(time)) return;
    const [least, most] = [time - answered, time - asked];
    if ((most - least) / 2 <= offBy + (answered - knownAt) * DRIFT) {
      offset = (least + most) / 2;
      offBy = (most - least) / 2;
      knownAt = answered;
    } else offset = Math.min(Math.max(offset, least), most);
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
