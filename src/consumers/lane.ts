import type { Logger } from '../telemetry/logging.ts';
import { backoffMs, pause, untilAborted } from './backoff.ts';
import type { JobOutcome } from './conclude.ts';
import type { Lease } from './leases.ts';
import type { Ended, Running } from './ownership.ts';
import type { LimitedSlots } from './queue-limit.ts';
import type { Drain, GiveBack } from './run-recorded.ts';
import type { Slots } from './slots.ts';
import type { JobToRun, StreamIds, Taken, WorkStreams } from './take.ts';
import type { Waker } from './waker.ts';

/** Taken at once and kept for the next free slots: little, as it can't be overtaken by what is more urgent. */
const PREFETCH = 4;
/** More where it is gone within moments, so that a take costs little for each job: still a few moments' work. */
const MOST_PREFETCHED = 64;
const MOMENT_MS = 50;
/** One take in so many, by the jobs that it brings, begins with the lowest priority, so that it is never starved. */
const LOWEST_FIRST_EVERY = 8;
/** When a lane is to be handed over, how long it waits at first without taking work for what still runs. */
const HAND_OVER_PAUSE_MS = 2_000;
/** The parts of the drain's time after which handlers are told to end, and are not waited for any longer. */
const TO_END_AT = 0.75;
const GIVE_UP_AT = 0.9;
/** What recording that they did not end may take at least. */
const RECORD_MS = 500;
const FULL_PAUSE_MS = 500;
const INSECURE_PAUSE_MS = 100;
const RETRY = { baseMs: 50, capMs: 2_000 };

export type LaneDeps = {
  readonly lease: Lease;
  readonly streams: WorkStreams;
  readonly waker: Waker;
  /** Of handlers at once: waits for a slot for the job, of the process and of the queue's limit if it has one. */
  readonly slots: Pick<LimitedSlots, 'acquire' | 'take'>;
  /** Of jobs at once that are given out and not recorded: more, as a handler's slot is free while its end is recorded. */
  readonly unrecorded: Slots;
  /** While Redis is too full for starts, none is made. */
  readonly refusesStarts: () => boolean;
  /** While the queue is paused, none is made either; what runs goes on. */
  readonly paused: () => boolean;
  /** Resolves once the queue may go on, or with the signal. */
  readonly untilResumed: (signal: AbortSignal) => Promise<void>;
  /** Whether this process can run such a job; what it can't is left pending, and to `leave` until the lane ends. */
  readonly knows: (type: string) => boolean;
  readonly leave: (job: JobToRun, until: AbortSignal) => void;
  /** Never rejects. @param giveBack for a run that needs its slot no more; at its end it is given back all the same */
  readonly run: (job: JobToRun, drain: Drain, giveBack: GiveBack) => Promise<JobOutcome>;
  /** How long the lane may take to end when the process stops. */
  readonly drainMs: number;
  /** Default 2,000. */
  readonly handOverPauseMs?: number;
  /** Called when the connection that takes work was lost: a reply may have been, too. */
  readonly onReconnect: (listener: () => void) => () => void;
  readonly logger: Logger;
};

type Run = { readonly job: JobToRun; over: Promise<void> };

const DONE = Promise.resolve();

const entryOf = ({ priority, entryId }: JobToRun) => `${priority} ${entryId}`;

/**
 * The work of one queue in one partition, as long as its lease lasts. First what is pending (the owner before had
 * it), then what is new; after a reconnect, or a take that failed, what is pending again, as a lost reply leaves
 * entries there that nobody holds.
 */
export function startLane(deps: LaneDeps): Running {
  const { lease, streams, slots, logger } = deps;
  const drain = {
    toEnd: new AbortController(),
    giveUp: new AbortController(),
    over: new AbortController(),
  };
  /** Aborted when nothing more is to be taken, for good: the lane is to end, or its lease is lost. */
  const over = new AbortController();
  const ending = over.signal;
  const told: Drain = {
    stops: ending,
    toEnd: drain.toEnd.signal,
    giveUp: drain.giveUp.signal,
    over: drain.over.signal,
  };
  /** Entries that are pending for as long as this lane lasts: malformed ones, and those of types that nobody here knows. */
  const aside = new Set<string>();
  const running = new Set<Run>();
  let buffer: JobToRun[] = [];
  let pendingAfter: StreamIds | undefined = new Map();
  /** The last take brought all that there was, and so far each stream was read. */
  let drainedTo: StreamIds | undefined;
  let sinceLowest = 0;
  let prefetch = PREFETCH;
  let takenAt = Number.NEGATIVE_INFINITY;
  let resume = Promise.withResolvers<void>();
  let paused = false;
  let handingOver = false;

  const lost = () => {
    over.abort();
    drain.over.abort();
  };
  if (lease.lost.aborted) lost();
  else lease.lost.addEventListener('abort', lost, { once: true });
  const unlisten = deps.onReconnect(() => {
    pendingAfter = new Map();
  });

  /** Takes more. Where the last take brought all that there was, it first waits until the waker has told of more, or may have. */
  async function fill(): Promise<void> {
    const after = pendingAfter;
    if (!after && drainedTo) {
      const ids = drainedTo;
      drainedTo = undefined;
      await untilAborted(deps.waker.wait(ids), ending);
      return;
    }
    drainedTo = undefined;
    const lowestFirst = sinceLowest >= (LOWEST_FIRST_EVERY - 1) * PREFETCH;
    const count = lowestFirst ? Math.max(PREFETCH, Math.ceil(sinceLowest / LOWEST_FIRST_EVERY)) : prefetch;
    const taken = await (after
      ? streams.takePending(PREFETCH * 8, after)
      : streams.takeNew(count, lowestFirst)
    ).catch((error: unknown) => {
      pendingAfter = new Map();
      throw error;
    });
    if (taken === 'lease_lost') {
      // Redis says so before our own clock does: nothing that runs now will be recorded.
      drain.over.abort();
      drain.toEnd.abort();
      over.abort();
      return;
    }
    keep(taken);
    if (after) {
      const done = [...taken.ids.values()].every((id) => id === '');
      if (pendingAfter === after) pendingAfter = done ? undefined : taken.ids;
      return;
    }
    sinceLowest = lowestFirst ? 0 : sinceLowest + taken.jobs.length;
    const now = performance.now();
    const isBusy = taken.jobs.length >= count && now - takenAt < MOMENT_MS;
    if (!isBusy) prefetch = Math.max(prefetch >> 1, PREFETCH);
    else if (!lowestFirst) prefetch = Math.min(prefetch * 2, MOST_PREFETCHED);
    takenAt = now;
    if (taken.ids.size > 0) drainedTo = taken.ids;
  }

  function keep(taken: Taken): void {
    for (const entry of taken.malformed) {
      if (!aside.has(entry)) logger.error({ entry }, 'a work entry is malformed and is left alone');
      aside.add(entry);
    }
    // What is new was given out to nobody; what is pending may be with us.
    const held = taken.jobs.every(({ isFresh }) => isFresh) ? undefined : heldNow();
    for (const job of taken.jobs) {
      if (held?.has(entryOf(job))) continue;
      if (deps.knows(job.type)) buffer.push(job);
      else {
        aside.add(entryOf(job));
        deps.leave(job, ending);
      }
    }
  }

  /** Entries that this lane holds: waiting in the buffer, running, or put aside. */
  function heldNow(): Set<string> {
    return new Set([...aside, ...buffer.map(entryOf), ...Array.from(running, ({ job }) => entryOf(job))]);
  }

  const ends = () => Promise.all(Array.from(running, ({ over }) => over));

  function begin(job: JobToRun, release: () => void, recorded: () => void): void {
    const giveBack: GiveBack = {
      slot: release,
      all() {
        release();
        recorded();
      },
    };
    const run: Run = { job, over: DONE };
    running.add(run);
    run.over = deps.run(job, told, giveBack).then((outcome) => {
      giveBack.all();
      running.delete(run);
      return outcome === 'left' && !ending.aborted ? lookAgain() : undefined;
    });
  }

  /** What was left while the lane goes on is pending still: it comes again with the next look there. */
  async function lookAgain(): Promise<void> {
    await pause(1_000, ending);
    pendingAfter = new Map();
  }

  async function loop(): Promise<void> {
    for (let failures = 0; !ending.aborted && lease.held(); ) {
      try {
        if (paused) await untilAborted(resume.promise, ending);
        if (!lease.secure()) {
          // It may be lost in a moment: what runs goes on, nothing is taken or begun.
          await pause(INSECURE_PAUSE_MS, ending);
          continue;
        }
        if (deps.refusesStarts()) {
          await pause(FULL_PAUSE_MS, ending);
          continue;
        }
        if (deps.paused()) {
          await deps.untilResumed(ending);
          continue;
        }
        if (buffer.length === 0) await fill();
        const job = buffer.shift();
        failures = 0;
        if (!job) continue;
        const release = slots.take() ?? (await slots.acquire(ending, job.jobId));
        const recorded = release && (deps.unrecorded.take() ?? (await deps.unrecorded.acquire(ending)));
        if (recorded && !paused && !deps.paused() && lease.secure()) begin(job, release, recorded);
        else {
          release?.();
          recorded?.();
          buffer.unshift(job);
        }
      } catch (err) {
        failures++;
        if (failures === 1) logger.warn({ err }, 'work could not be taken; trying again');
        await pause(backoffMs(failures, RETRY, 0.5 + Math.random() / 2), ending);
      }
    }
  }

  async function handOver(): Promise<void> {
    handingOver = true;
    // Longer each time: of jobs that overlap, one always runs on unless all of them have the time to end.
    for (let ms = deps.handOverPauseMs ?? HAND_OVER_PAUSE_MS; !ending.aborted; ms *= 2) {
      // Work is still taken while what runs now goes on: that may take hours.
      await untilAborted(ends(), ending);
      paused = true;
      await Promise.race([ends(), pause(ms, ending)]);
      if (running.size === 0) break;
      paused = false;
      resume.resolve();
      resume = Promise.withResolvers();
    }
    over.abort();
  }

  /** Waits for what runs; what takes too long is told to end, then given up, and its interruption recorded. */
  async function drained(): Promise<void> {
    const { drainMs } = deps;
    const timers = [
      setTimeout(() => drain.toEnd.abort(), drainMs * TO_END_AT),
      setTimeout(() => drain.giveUp.abort(), drainMs * GIVE_UP_AT),
    ];
    const allEnded = new AbortController();
    void ends().then(() => allEnded.abort());
    await pause(Math.max(drainMs, drainMs * GIVE_UP_AT + RECORD_MS), allEnded.signal);
    for (const timer of timers) clearTimeout(timer);
    drain.over.abort();
  }

  async function end(): Promise<Ended> {
    await loop();
    over.abort();
    unlisten();
    buffer = [];
    await drained();
    return { kind: lease.lost.aborted ? 'lost' : 'done' };
  }

  return {
    ended: end(),
    handOver: () => {
      if (!handingOver) void handOver();
    },
    stop: () => over.abort(),
  };
}
