import { Cron } from 'croner';
import type { Ticks } from '../domain/schedules.ts';

const NICKNAMES = /^@(?:yearly|annually|monthly|weekly|daily|midnight|hourly)$/i;
const SAMPLE = 100;

export type ReadCron =
  | { readonly ok: true; readonly ticks: Ticks }
  /** What is wrong with which of the two, in a client's words. */
  | { readonly ok: false; readonly part: 'cron' | 'timezone'; readonly detail: string };

/**
 * Reads a cron expression: five fields, six with seconds in front, or a nickname such as `@daily`; in a field `*`,
 * lists, ranges, steps, names, and `L`, `W`, `#` for days. Where both days are restricted, either will do.
 *
 * Where a clock changes: a job at given times (no `*` and no step in seconds, minutes and hours) runs once, at the end
 * of the gap, where a time does not exist, and once, the first time, where it occurs twice. Any other goes by intervals:
 * it passes over what does not exist, and runs in both of what occurs twice, as Vixie cron does.
 *
 * @param timezone name of an IANA time zone
 */
export function readCron(expression: string, timezone: string): ReadCron {
  if (!isTimeZone(timezone)) {
    return { ok: false, part: 'timezone', detail: 'is the name of no time zone, such as Europe/Berlin' };
  }
  // The library reads a date, too, and a field of years.
  const fields = expression.trim().split(/\s+/).length;
  if (fields !== 5 && fields !== 6 && !NICKNAMES.test(expression)) {
    return { ok: false, part: 'cron', detail: 'has five fields, or six with seconds in front' };
  }
  try {
    return { ok: true, ticks: ticksOf(expression, timezone) };
  } catch (error) {
    return { ok: false, part: 'cron', detail: `is no cron expression: ${faultOf(error)}` };
  }
}

/** As the library says it, which counts days and months from 0. */
function faultOf(error: unknown): string {
  const text = error instanceof Error ? error.message.replace(/^CronPattern: /, '') : String(error);
  return text.replace(
    /^(Invalid value for (?:day|month): )(-?\d+)$/,
    (_, said, at) => said + (Number(at) + 1),
  );
}

/** The smallest of the next pauses between ticks, ms. Infinite where there are none. */
export function shortestPause(ticks: Ticks, from: number): number {
  let shortest = Number.POSITIVE_INFINITY;
  let before: number | undefined;
  let at = ticks.next(from);
  for (let count = 0; at !== undefined && count < SAMPLE; count++) {
    if (before !== undefined) shortest = Math.min(shortest, at - before);
    before = at;
    at = ticks.next(at);
  }
  return shortest;
}

function ticksOf(expression: string, timezone: string): Ticks {
  const cron = new Cron(expression.trim(), {
    mode: '5-or-6-parts',
    timezone,
    fixedTimeRule: 'no-wildcard',
    paused: true,
  });
  return {
    next: (after) => cron.nextRun(new Date(after))?.getTime(),
    upTo(at, most) {
      // It looks before a time, and at whole seconds.
      const end = new Date((Math.floor(at / 1000) + 1) * 1000);
      return cron.previousRuns(most, end).map((date) => date.getTime());
    },
  };
}

function isTimeZone(name: string): boolean {
  // Offsets pass for time zones, with some of what follows and not with the rest; clocks that change need a name.
  if (!/^[A-Za-z]/.test(name)) return false;
  try {
    new Intl.DateTimeFormat('en', { timeZone: name });
    return true;
  } catch {
    return false;
  }
}
