import { url as inspectorUrl } from 'node:inspector';
import { Worker } from 'node:worker_threads';
import { createCell, isFailing, monotonicMs, validUntil } from './lease-cell.ts';
import type { RenewerMessage, RenewerSettings } from './lease-renewer.ts';
import { createPulse, createSilence } from './pulse.ts';

export const LEASE_MS = 15_000;
const RENEW_EVERY_MS = 5_000;
/**
 * How long the event loop may be silent: longer than any collection of garbage or hash of a password; short
 * enough that what the loop holds is given back before its leases would have run out without us.
 */
const SILENT_MS = 10_000;
/** A renewal is late when it is half as old again as it should ever be. */
const LATE = 1.5;

export type LeaseTiming = {
  readonly leaseMs?: number;
  readonly renewEveryMs?: number;
  /** How long the event loop may be silent before the process is ended. */
  readonly silentMs?: number;
};

/** Renews leases, and watches the event loop of those who hold them. */
export type LeaseKeeper = {
  /** For how long leases are taken and renewed. */
  readonly leaseMs: number;
  /** Resolves once it can renew; rejects when it never will. */
  ready(): Promise<void>;
  /** Whether it is connected to Redis. Take no lease while it is not: who would renew it? */
  connected(): boolean;
  keep(key: string, token: number, takenAt: number): KeptLease;
  close(): Promise<void>;
};

export type KeptLease = {
  /**
   * Until when the lease is certain, by `monotonicMs`: its time counted from *before* the request that renewed
   * it. -Infinity once Redis has said that it is no longer ours, or it was given up.
   */
  validUntil(): number;
  /** Whether the last renewal that was due has been made, and the next one can be. Where not, begin nothing new. */
  renewed(): boolean;
  forget(): void;
};

/**
 * Renews every lease every 5 s in a thread with a connection of its own, so that a busy event loop does not lose
 * them; and a hung one does not keep them: see lease-renewer.ts. Nothing of it keeps the process alive.
 *
 * @param deps.log for the renewer's last words: this thread can't speak for it then
 * @param deps.onDeath the renewer has died or is stuck. No lease is renewed any more: end the process
 */
export function startLeaseKeeper(deps: {
  readonly redisUrl: string;
  readonly log: RenewerSettings['log'];
  readonly onDeath: (error: Error) => void;
  readonly timing?: LeaseTiming;
}): LeaseKeeper {
  const leaseMs = deps.timing?.leaseMs ?? LEASE_MS;
  const renewEveryMs = deps.timing?.renewEveryMs ?? RENEW_EVERY_MS;
  const silentMs = deps.timing?.silentMs ?? SILENT_MS;
  const pulse = createPulse();
  const settings: RenewerSettings = {
    redisUrl: deps.redisUrl,
    log: deps.log,
    pulse: pulse.buffer,
    leaseMs,
    renewEveryMs,
    silentMs,
  };
  const thread = new Worker(new URL('./lease-renewer.ts', import.meta.url), {
    name: 'lease-renewer',
    workerData: settings,
    execArgv: [], // what the process was told to load first is not needed there
  });
  thread.unref();
  const send = (message: RenewerMessage) => thread.postMessage(message);
  const running = Promise.withResolvers<void>();
  running.promise.catch(() => {});
  let leases = 0;
  let ended = false;

  function died(error: Error): void {
    if (ended) return;
    ended = true;
    clearInterval(beating);
    running.reject(error);
    deps.onDeath(error);
  }

  const silence = createSilence(silentMs, monotonicMs);
  let started = false;
  const beating = setInterval(beat, silence.lookEveryMs).unref();
  beat();
  thread.once('message', () => {
    started = true;
    running.resolve();
  });
  thread.on('error', (cause: unknown) => died(new Error('the lease renewer died', { cause })));
  thread.on('exit', (code) => died(new Error(`the lease renewer ended with ${code}`)));

  function beat(): void {
    pulse.beat('loop');
    pulse.setDebugged(inspectorUrl() !== undefined);
    if (pulse.isOver()) died(new Error('the event loop was silent for too long, and its leases are gone'));
    else if (started && silence.of(pulse.beats('renewer')) > silentMs) {
      died(new Error('the lease renewer is stuck'));
    }
  }

  return {
    leaseMs,
    ready: () => running.promise,
    connected: pulse.isConnected,
    keep(key, token, takenAt) {
      const cell = createCell(takenAt + leaseMs);
      const id = ++leases;
      send({ kind: 'keep', id, key, token, cell });
      return {
        validUntil: () => validUntil(cell),
        renewed: () =>
          pulse.isConnected() &&
          !isFailing(cell) &&
          monotonicMs() - (validUntil(cell) - leaseMs) < renewEveryMs * LATE,
        forget: () => send({ kind: 'forget', id }),
      };
    },
    async close() {
      ended = true;
      clearInterval(beating);
      await thread.terminate();
    },
  };
}
