import { type Static, Type } from 'typebox';
import { accept, type Decision, type Fold, refuse } from './decision.ts';
import type { FoldMeta } from './event.ts';
import type { JobId } from './ids.ts';
import { JobEnqueued } from './jobs/events.ts';

/** What becomes of ticks at which nobody could enqueue a run. Stored in events: names for life. */
export const MissedRuns = Type.Enum(['skip', 'once', 'all']);
export type MissedRuns = Static<typeof MissedRuns>;

const Time = Type.String({ maxLength: 30 });

/** What each run is to be; when, the schedule says. */
export const ScheduledJob = Type.Omit(JobEnqueued, ['runAt', 'schedule']);
export type ScheduledJob = Static<typeof ScheduledJob>;

export const ScheduleCreated = Type.Object({
  cron: Type.String({ maxLength: 200 }),
  /** Name of the IANA time zone whose clock the expression is about. */
  timezone: Type.String({ maxLength: 64 }),
  missed: MissedRuns,
  job: ScheduledJob,
  /** The first tick, RFC 3339 UTC. */
  next: Time,
});
export type ScheduleCreated = Static<typeof ScheduleCreated>;

export const ScheduleTicked = Type.Object({
  /** The tick that this is about, RFC 3339 UTC: all before it are dealt with. */
  tick: Time,
  /** The run, enqueued by the same commit. Absent: this tick was missed, and is not made up for. */
  jobId: Type.Optional(Type.String({ maxLength: 80 })),
  /** Ticks up to this one that were due and have no run of their own. 1,000 stands for more, too. */
  missed: Type.Integer({ minimum: 0, maximum: 1000 }),
  /** The next tick, RFC 3339 UTC. Absent: there is none any more. */
  next: Type.Optional(Time),
});
export type ScheduleTicked = Static<typeof ScheduleTicked>;

export const ScheduleDeleted = Type.Object({});

export type ScheduleEvent =
  | { type: 'ScheduleCreated'; data: ScheduleCreated }
  | { type: 'ScheduleTicked'; data: ScheduleTicked }
  | { type: 'ScheduleDeleted'; data: Static<typeof ScheduleDeleted> };

export type ActiveSchedule = {
  readonly phase: 'active';
  readonly cron: string;
  readonly timezone: string;
  readonly missed: MissedRuns;
  readonly job: ScheduledJob;
  readonly owner?: string;
  /** The next tick, ms since 1970. Absent: there is none any more. */
  readonly nextAt?: number;
};
export type Schedule =
  | { readonly phase: 'none' }
  | ActiveSchedule
  | { readonly phase: 'deleted'; readonly owner?: string };

export const scheduleFold: Fold<Schedule, ScheduleEvent & FoldMeta> = {
  fold: 2,
  initial: { phase: 'none' },
  evolve(state, event) {
    switch (event.type) {
      case 'ScheduleCreated': {
        const { next, ...spec } = event.data;
        return { phase: 'active', ...spec, ...ownerOf(event), nextAt: Date.parse(next) };
      }
      case 'ScheduleTicked': {
        if (state.phase !== 'active') return state;
        const { nextAt: _, ...kept } = state;
        const { next } = event.data;
        return { ...kept, ...(next === undefined ? {} : { nextAt: Date.parse(next) }) };
      }
      case 'ScheduleDeleted':
        return state.phase === 'none' ? state : { phase: 'deleted', ...ownerOf(state) };
    }
  },
};

function ownerOf({ owner }: { readonly owner?: string }): { owner?: string } {
  return owner === undefined ? {} : { owner };
}

/** The times at which an expression fires, ms since 1970. What they are depends on nothing but the arguments. */
export type Ticks = {
  /** The first one after a time; undefined: it never fires again. */
  next(after: number): number | undefined;
  /** The last ones at or before a time, the latest first, at most so many. */
  upTo(at: number, most: number): readonly number[];
};

export function createSchedule(state: Schedule, data: ScheduleCreated): Decision<ScheduleEvent> {
  return state.phase === 'none' ? accept({ type: 'ScheduleCreated', data }) : accept();
}

/** Ends a schedule; the runs that it has enqueued go on. Doing so again changes nothing. */
export function deleteSchedule(state: Schedule): Decision<ScheduleEvent> {
  if (state.phase === 'none') return refuse('not_found', 'There is no such schedule of yours.');
  return state.phase === 'deleted' ? accept() : accept({ type: 'ScheduleDeleted', data: {} });
}

/** A tick that nobody has dealt with for longer than this was missed; so was one whose successor is due, too. */
export const MISSED_AFTER_MS = 60_000;
/** With `all`, no more than this many missed ticks are made up for: the latest ones. */
export const MOST_MADE_UP = 1_000;
/** Runs enqueued by one commit. */
const MOST_AT_ONCE = 10;

/**
 * Deals with the ticks that are due: nothing where none is, one event for each run otherwise, or for those that are
 * passed over. There may be more to do afterwards: ask again.
 *
 * @param input.now ms since 1970
 * @param input.jobIdOf the id of the run at a tick (RFC 3339): the same whenever, and by whomever, it is asked
 */
export function tickSchedule(
  state: Schedule,
  input: { readonly now: number; readonly ticks: Ticks; readonly jobIdOf: (tick: string) => JobId },
): Decision<ScheduleEvent> {
  if (state.phase !== 'active' || state.nextAt === undefined || state.nextAt > input.now) return accept();
  const { now, ticks } = input;
  const first = state.nextAt;
  // Time zones change their rules: what was to be the next tick stays one.
  const last = Math.max(first, ticks.upTo(now, 1)[0] ?? first);
  if (state.missed === 'all') return accept(...eachOf(ticks, first, now, input.jobIdOf));
  const missed = between(ticks, first, last, MOST_MADE_UP).length;
  const runs = state.missed === 'once' || now - last <= MISSED_AFTER_MS;
  if (runs) return accept(ticked(ticks, last, missed, input.jobIdOf));
  return accept(ticked(ticks, last, Math.min(missed + 1, MOST_MADE_UP)));
}

/** A run for each tick from `first` on, in order, the first ones for now; those that are too many are passed over. */
function eachOf(
  ticks: Ticks,
  first: number,
  now: number,
  jobIdOf: (tick: string) => JobId,
): readonly ScheduleEvent[] {
  const due = between(ticks, first, now + 1, MOST_MADE_UP + 1);
  if (due.length <= MOST_MADE_UP) {
    return due.slice(0, MOST_AT_ONCE).map((tick) => ticked(ticks, tick, 0, jobIdOf));
  }
  const kept = ticks.upTo(now, MOST_MADE_UP).at(-1) ?? now;
  const passed = ticks.upTo(kept - 1, 1)[0] ?? first;
  return [ticked(ticks, passed, between(ticks, first, kept, MOST_MADE_UP).length)];
}

/** `first`, which is a tick, and those after it up to and without `end`, at most so many. */
function between(ticks: Ticks, first: number, end: number, most: number): number[] {
  const found: number[] = [];
  for (let at: number | undefined = first; at !== undefined && at < end && found.length < most; ) {
    found.push(at);
    at = ticks.next(at);
  }
  return found;
}

function ticked(ticks: Ticks, at: number, missed: number, jobIdOf?: (tick: string) => JobId): ScheduleEvent {
  const tick = new Date(at).toISOString();
  const next = ticks.next(at);
  return {
    type: 'ScheduleTicked',
    data: {
      tick,
      ...(jobIdOf ? { jobId: jobIdOf(tick) } : {}),
      missed,
      ...(next === undefined ? {} : { next: new Date(next).toISOString() }),
    },
  };
}
