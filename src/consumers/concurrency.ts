import { randomBytes } from 'node:crypto';
import { type JobId, parseStreamId, partitionOf } from '../domain/ids.ts';
import { jobFold, jobIsFinished } from '../domain/jobs/state.ts';
import { runScript } from '../eventstore/connections.ts';
import { slotOf } from '../eventstore/partitions.ts';
import type { OpenEventStore } from '../eventstore/store.ts';
import { StoreUnavailableError } from '../eventstore/types.ts';
import type { Logger } from '../telemetry/logging.ts';
import { follow, pause } from './backoff.ts';
import type { Hints } from './hints.ts';
import { readScript } from './scripts.ts';

const slotsScript = readScript(import.meta.url, './concurrency.lua');
const hastenScript = readScript(import.meta.url, './hasten.lua');

/** How long a slot lasts unless it is renewed; longer than a lease, whose loss ends what runs under it. */
const SLOT_MS = 30_000;
/** A slot that was granted is told by a hint, which may be lost. */
const LOOK_EVERY_MS = 1_000;

/** At most `most` jobs at once of those with this name, over all processes. Names are stored in keys: for life. */
export type Limit = { readonly name: string; readonly most: number };

export type HeldSlot = {
  /** Gives it back; the oldest that waits is granted it. Never rejects: what can't be given back runs out. */
  release(): Promise<void>;
  /** Leaves it to who has the job next, or to run out. */
  forget(): void;
};

/** Slots of concurrency limits. All throw `StoreUnavailableError` while Redis is away. */
export type Concurrency = {
  /** A slot, if one is free and nobody waits who came before; else how many do. */
  take(limit: Limit, jobId: JobId): Promise<HeldSlot | { readonly ahead: number }>;
  /**
   * Waits for a slot by way of the job's timer, which becomes due when the slot is granted: at once, if one came free
   * since. First come, first served.
   */
  enlist(limit: Limit, jobId: JobId): Promise<void>;
  /** Waits for a slot in this process; undefined when the signal comes first. */
  wait(limit: Limit, jobId: JobId, signal: AbortSignal): Promise<HeldSlot | undefined>;
  /** What is held is not renewed any more. */
  close(): void;
};

type Mode = 'try' | 'wait' | 'enlist' | 'renew' | 'release';

/** @param deps.slotMs how long a slot lasts unless it is renewed; default 30,000 */
export function createConcurrency(deps: {
  readonly store: Pick<OpenEventStore, 'keys' | 'writer' | 'load'>;
  readonly hints: Hints;
  readonly logger: Logger;
  readonly slotMs?: number | undefined;
}): Concurrency {
  const { store, hints, logger, slotMs = SLOT_MS } = deps;
  const { redis } = store.writer;
  /** How what is held is renewed, by run. */
  const held = new Map<string, () => Promise<void>>();
  const granted = new Map<string, () => void>();

  async function call(limit: Limit, mode: Mode, jobId: JobId, run: string) {
    const { name, most } = limit;
    const keys = store.keys[slotOf(name) % store.keys.length];
    if (!keys) throw new Error('there are no partitions');
    const reply = await runScript(
      redis,
      slotsScript,
      [keys.slots(name), keys.slotRuns(name), keys.slotWaiting(name)],
      [mode, jobId, run, most, slotMs],
    ).catch((cause: unknown) => {
      throw new StoreUnavailableError('slots cannot be taken now', { cause });
    });
    const [has, ahead, others]: unknown[] = Array.isArray(reply) ? reply : [];
    for (const other of Array.isArray(others) ? others : []) {
      const id = parseStreamId(String(other), 'job');
      if (id) void tell(limit, id);
    }
    return { has: has === 1, ahead: Number(ahead) };
  }

  /** A job that waited has a slot: it begins as soon as may be. One that has ended meanwhile needs none. */
  async function tell(limit: Limit, jobId: JobId): Promise<void> {
    try {
      hints.publish('slots', jobId);
      if (await hasten(jobId)) return;
      const { state } = await store.load(jobId, jobFold);
      if (state.phase === 'none' || jobIsFinished(state)) await call(limit, 'release', jobId, '');
    } catch (err) {
      logger.debug({ err, jobId }, 'a job could not be told of its slot: it finds it by itself');
    }
  }

  async function hasten(jobId: JobId): Promise<boolean> {
    const partition = partitionOf(jobId);
    const keys = store.keys[partition];
    if (!keys) throw new Error(`there is no partition ${partition}`);
    const reply = await runScript(redis, hastenScript, [keys.timers, keys.timerWork], [jobId]);
    if (reply !== 1) return false;
    hints.publish('timers', `${partition} 0`);
    return true;
  }

  function hold(limit: Limit, jobId: JobId, run: string): HeldSlot {
    held.set(run, async () => {
      const { has } = await call(limit, 'renew', jobId, run);
      if (!has) held.delete(run); // another run of the job has it by now
    });
    return {
      async release() {
        if (!held.delete(run)) return;
        await call(limit, 'release', jobId, run).catch((err: unknown) =>
          logger.debug({ err, jobId }, 'a slot was not given back: it runs out'),
        );
      },
      forget: () => void held.delete(run),
    };
  }

  async function acquire(mode: 'try' | 'wait', limit: Limit, jobId: JobId) {
    const run = randomBytes(9).toString('base64url');
    const { has, ahead } = await call(limit, mode, jobId, run);
    return has ? hold(limit, jobId, run) : { ahead };
  }

  const renewal = setInterval(() => {
    for (const renew of held.values()) {
      renew().catch((err: unknown) => logger.warn({ err }, 'a slot could not be renewed'));
    }
  }, slotMs / 3).unref();
  const unhint = hints.on('slots', (jobId) => granted.get(jobId)?.());

  return {
    take: (limit, jobId) => acquire('try', limit, jobId),
    async enlist(limit, jobId) {
      const { has } = await call(limit, 'enlist', jobId, '');
      if (has) await hasten(jobId);
    },
    async wait(limit, jobId, signal) {
      while (!signal.aborted) {
        const told = new AbortController();
        granted.set(jobId, () => told.abort());
        const slot = await acquire('wait', limit, jobId);
        if ('release' in slot) {
          granted.delete(jobId);
          if (!signal.aborted) return slot;
          await slot.release();
        } else {
          const woken = follow(signal, told.signal);
          await pause(LOOK_EVERY_MS, woken.signal);
          woken.stop();
        }
      }
      granted.delete(jobId);
      await call(limit, 'release', jobId, '');
      return undefined;
    },
    close() {
      clearInterval(renewal);
      unhint();
    },
  };
}
