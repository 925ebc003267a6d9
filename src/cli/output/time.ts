import { InvalidArgumentError } from 'commander';
import { UsageError } from '../exit.ts';

const UNITS = { s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

/** An option's time: RFC 3339, or so long ago, as `90s`, `15m`, `2h`, `7d`. Answers RFC 3339. */
export function readTime(text: string): string {
  const [, count, unit] = /^(\d{1,6})([smhd])$/.exec(text) ?? [];
  const ago = count !== undefined && isUnit(unit) ? Number(count) * UNITS[unit] : undefined;
  const time = ago === undefined ? Date.parse(text) : Date.now() - ago;
  if (Number.isNaN(time) || (ago === undefined && !/^\d{4}-\d\d-\d\dT/.test(text))) {
    throw new InvalidArgumentError('A time is written as 2026-11-20T21:47:00Z, or as 15m, 2h or 7d ago.');
  }
  const read = new Date(time);
  const year = read.getUTCFullYear();
  // Of other years Postgres takes no RFC 3339.
  if (year < 1 || year > 9999) throw new InvalidArgumentError('It is of a year from 1 to 9999.');
  return read.toISOString();
}

type Range = { readonly from?: string | undefined; readonly to?: string | undefined };

/** Throws `UsageError` where nothing can be between two times. */
export function checkTimes({ from, to }: Range): void {
  if (from !== undefined && to !== undefined && Date.parse(to) < Date.parse(from)) {
    throw new UsageError('--to is before --from: nothing is between them. Give the earlier one as --from.');
  }
}

function isUnit(text: string | undefined): text is keyof typeof UNITS {
  return text !== undefined && Object.hasOwn(UNITS, text);
}

/** A length of time as one says it: `4 s`, `3 min`, `2 h`, `5 d`. */
export function duration(ms: number): string {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

/** RFC 3339 without what nobody reads in a table: `2026-11-20 21:47:00`, UTC. */
export function shortTime(time: string | undefined): string {
  return time === undefined ? '' : time.slice(0, 19).replace('T', ' ');
}
