/** Texts of late, by the lowest bits of their times: neighbours in time don't push each other out. */
const REMEMBERED = 1_024;
const times = new Float64Array(REMEMBERED).fill(Number.NaN);
const texts = new Array<string>(REMEMBERED).fill('');

/**
 * A time as RFC 3339 in UTC with milliseconds, as `Date.toISOString` writes it, which prints it anew each time: that was
 * 4 % of what a job costs, and jobs of one moment share theirs.
 *
 * @param ms milliseconds since 1970, whole ones; throws a RangeError where that is no time
 */
export function isoOf(ms: number): string {
  const place = ms & (REMEMBERED - 1);
  if (times[place] === ms) return texts[place] as string;
  const text = new Date(ms).toISOString();
  times[place] = ms;
  texts[place] = text;
  return text;
}
