import type { Redis } from 'ioredis';
import { runScript } from '../eventstore/connections.ts';
import { readScript } from './scripts.ts';

const renewScript = readScript(import.meta.url, './lease-renew.lua');

export const LEASE_MS = 15_000;
const RENEW_EVERY_MS = 5_000;

/** Renews leases. Nothing in it needs this thread: the one thing that its user reads is a clock's value. */
export type LeaseKeeper = {
  keep(key: string, token: number, takenAt: number): KeptLease;
  close(): void;
};

export type KeptLease = {
  /**
   * Until when the lease is certain, by `monotonicMs`: its time counted from *before* the request that renewed
   * it. -Infinity once Redis has said that it is no longer ours.
   */
  validUntil(): number;
  forget(): void;
};

/** Milliseconds by a clock that no one sets, the same in every thread of the process. */
export function monotonicMs(): number {
  return Number(process.hrtime.bigint() / 1_000_000n);
}

/** Renews every lease every 5 s on this thread. */
export function createLeaseKeeper(redis: Redis, timing: { leaseMs?: number; renewEveryMs?: number } = {}) {
  const leaseMs = timing.leaseMs ?? LEASE_MS;
  const kept = new Map<string, { token: number; validUntil: number }>();

  async function renew(key: string, entry: { token: number; validUntil: number }): Promise<void> {
    const asked = monotonicMs();
    const reply = await runScript(redis, renewScript, [key], [entry.token, leaseMs]);
    entry.validUntil = reply === 1 ? Math.max(entry.validUntil, asked + leaseMs) : Number.NEGATIVE_INFINITY;
  }

  const timer = setInterval(() => {
    // A failed renewal needs no word: the lease runs out by itself, and whoever holds it sees that.
    for (const [key, entry] of kept) renew(key, entry).catch(() => {});
  }, timing.renewEveryMs ?? RENEW_EVERY_MS);

  return {
    keep(key, token, takenAt) {
      const entry = { token, validUntil: takenAt + leaseMs };
      kept.set(key, entry);
      return {
        validUntil: () => entry.validUntil,
        forget: () => {
          if (kept.get(key) === entry) kept.delete(key);
        },
      };
    },
    close: () => clearInterval(timer),
  } satisfies LeaseKeeper;
}
