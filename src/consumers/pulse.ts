/** What the event loop and the lease renewer tell each other without a message: neither waits for the other. */
export type Pulse = {
  readonly buffer: SharedArrayBuffer;
  beat(who: Who): void;
  /** How often it has beaten. */
  beats(who: Who): number;
  /** Whether someone may look at the event loop with a debugger: then it is silent for good reason. */
  setDebugged(debugged: boolean): void;
  isDebugged(): boolean;
  /** Whether the renewer is connected to Redis. */
  setConnected(connected: boolean): void;
  isConnected(): boolean;
  /** The renewer has given the leases up and the process is to end: who reads this was not ended by a signal. */
  setOver(): void;
  isOver(): boolean;
};

type Who = 'loop' | 'renewer';
const AT = { loop: 0, renewer: 1, debugged: 2, connected: 3, over: 4 } as const;
const SIZE = 5;

/** @param buffer of the other side's pulse; without it a new one is made */
export function createPulse(buffer = new SharedArrayBuffer(SIZE * Int32Array.BYTES_PER_ELEMENT)): Pulse {
  const cells = new Int32Array(buffer);
  return {
    buffer,
    beat: (who) => void Atomics.add(cells, AT[who], 1),
    beats: (who) => Atomics.load(cells, AT[who]),
    setDebugged: (debugged) => void Atomics.store(cells, AT.debugged, debugged ? 1 : 0),
    isDebugged: () => Atomics.load(cells, AT.debugged) === 1,
    setConnected: (connected) => void Atomics.store(cells, AT.connected, connected ? 1 : 0),
    isConnected: () => Atomics.load(cells, AT.connected) === 1,
    setOver: () => void Atomics.store(cells, AT.over, 1),
    isOver: () => Atomics.load(cells, AT.over) === 1,
  };
}

const LOOKS = 20;
const LOOK_EVERY_MOST_MS = 500;

/**
 * Measures for how long the other side has been silent. Only time in which we ourselves were awake counts: when
 * the process was stopped (SIGSTOP, a frozen container, no CPU for anyone), both sides were, and neither is at fault.
 *
 * @param limitMs the silence that matters: it says how often to look
 * @param now milliseconds by a clock that no one sets
 */
export function createSilence(
  limitMs: number,
  now: () => number,
): {
  /** How often `of` is to be called; the beats come as often. */
  readonly lookEveryMs: number;
  /** Silence in milliseconds, given how often the other side has beaten. */
  of(beats: number): number;
} {
  const lookEveryMs = Math.max(10, Math.min(LOOK_EVERY_MOST_MS, Math.floor(limitMs / LOOKS)));
  let heard: number | undefined;
  let silent = 0;
  let looked = now();
  return {
    lookEveryMs,
    of(beats) {
      const passed = now() - looked;
      looked += passed;
      if (beats !== heard) silent = 0;
      else silent += Math.min(passed, 2 * lookEveryMs);
      heard = beats;
      return silent;
    },
  };
}
