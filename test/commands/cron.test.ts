import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readCron, shortestPause } from '../../src/commands/cron.ts';
import type { Ticks } from '../../src/domain/schedules.ts';

function ticksOf(expression: string, timezone = 'UTC'): Ticks {
  const read = readCron(expression, timezone);
  if (!read.ok) throw new Error(`${expression}: ${read.part} ${read.detail}`);
  return read.ticks;
}

/** The next ticks after a time, as RFC 3339 up to minutes. */
function next(expression: string, timezone: string, from: string, count: number): string[] {
  const ticks = ticksOf(expression, timezone);
  const found: string[] = [];
  for (let at = ticks.next(Date.parse(from)); at !== undefined && found.length < count; at = ticks.next(at)) {
    found.push(`${new Date(at).toISOString().slice(0, 16)}Z`);
  }
  return found;
}

describe('when the clocks go forward', () => {
  test('a time that does not exist in Berlin runs once, at the end of the gap', () => {
    expect(next('30 2 * * *', 'Europe/Berlin', '2026-03-28T00:00:00Z', 3)).toEqual([
      '2026-03-28T01:30Z',
      '2026-03-29T01:00Z', // 03:00, as there is no 02:30
      '2026-03-30T00:30Z',
    ]);
  });

  test('a time that does not exist in New York runs once, at the end of the gap', () => {
    expect(next('15 2 * * *', 'America/New_York', '2026-03-07T12:00:00Z', 2)).toEqual([
      '2026-03-08T07:00Z',
      '2026-03-09T06:15Z',
    ]);
  });

  test('several times in one gap run once together', () => {
    expect(next('0,20,40 2 * * *', 'Europe/Berlin', '2026-03-28T12:00:00Z', 2)).toEqual([
      '2026-03-29T01:00Z',
      '2026-03-30T00:00Z',
    ]);
  });

  test('a gap of half an hour counts like any other', () => {
    expect(next('15 2 * * *', 'Australia/Lord_Howe', '2026-10-02T16:00:00Z', 2)).toEqual([
      '2026-10-03T15:30Z', // 02:30 of the 4th
      '2026-10-04T15:15Z',
    ]);
  });

  test('what runs every so often goes on at its pace, and does not make up for minutes that were not', () => {
    expect(next('*/30 * * * *', 'Europe/Berlin', '2026-03-29T00:15:00Z', 3)).toEqual([
      '2026-03-29T00:30Z',
      '2026-03-29T01:00Z',
      '2026-03-29T01:30Z',
    ]);
  });
});

describe('when the clocks go back', () => {
  test('a time that occurs twice in Berlin runs once, the first time', () => {
    expect(next('30 2 * * *', 'Europe/Berlin', '2026-10-24T12:00:00Z', 2)).toEqual([
      '2026-10-25T00:30Z',
      '2026-10-26T01:30Z',
    ]);
  });

  test('a time that occurs twice in New York runs once, the first time', () => {
    expect(next('30 1 * * *', 'America/New_York', '2026-10-31T12:00:00Z', 2)).toEqual([
      '2026-11-01T05:30Z',
      '2026-11-02T06:30Z',
    ]);
  });

  test('what runs every hour runs in the hour that is repeated, too: it would pause for two hours otherwise', () => {
    expect(next('0 * * * *', 'Europe/Berlin', '2026-10-24T23:30:00Z', 3)).toEqual([
      '2026-10-25T00:00Z',
      '2026-10-25T01:00Z',
      '2026-10-25T02:00Z',
    ]);
  });
});

describe('the calendar', () => {
  test('29 February waits for leap years, and passes over 2100', () => {
    expect(next('0 0 29 2 *', 'UTC', '2026-11-21T00:00:00Z', 2)).toEqual([
      '2028-02-29T00:00Z',
      '2032-02-29T00:00Z',
    ]);
    expect(next('0 0 29 2 *', 'UTC', '2096-03-01T00:00:00Z', 1)).toEqual(['2104-02-29T00:00Z']);
  });

  test('the last day of the month is the 28th, 29th, 30th or 31st', () => {
    expect(next('0 12 L * *', 'UTC', '2028-01-15T00:00:00Z', 4)).toEqual([
      '2028-01-31T12:00Z',
      '2028-02-29T12:00Z',
      '2028-03-31T12:00Z',
      '2028-04-30T12:00Z',
    ]);
  });

  test('the 31st passes over months without one', () => {
    expect(next('0 0 31 * *', 'UTC', '2026-01-31T12:00:00Z', 2)).toEqual([
      '2026-03-31T00:00Z',
      '2026-05-31T00:00Z',
    ]);
  });

  test.each(['0 0 30 2 *', '0 0 31 4 *', '0 0 31 2,4,6,9,11 *'])('%s never fires', (expression) => {
    expect(ticksOf(expression).next(Date.parse('2026-11-21T00:00:00Z'))).toBeUndefined();
  });
});

describe('what is no cron expression, or no time zone', () => {
  test.each([
    ['* * * *', 'UTC', 'cron'],
    ['61 * * * *', 'UTC', 'cron'],
    ['*/0 * * * *', 'UTC', 'cron'],
    ['0 0 0 1 1 * 2030', 'UTC', 'cron'],
    ['2027-01-01T00:00:00', 'UTC', 'cron'],
    ['@reboot', 'UTC', 'cron'],
    ['', 'UTC', 'cron'],
    ['every day at nine', 'UTC', 'cron'],
    ['0 9 * * *', 'Mars/Olympus', 'timezone'],
    ['0 9 * * *', '+01:00', 'timezone'],
    ['0 9 * * *', '', 'timezone'],
  ])('"%s" in "%s" is refused for its %s', (expression, timezone, part) => {
    expect(readCron(expression, timezone)).toMatchObject({ ok: false, part });
  });

  test.each([
    ['* * 0 * *', 'day: 0'],
    ['* * 32 * *', 'day: 32'],
    ['* * * 13 *', 'month: 13'],
    ['60 * * * *', 'minute: 60'],
  ])('"%s" is said with the number that was written', (expression, detail) => {
    expect(readCron(expression, 'UTC')).toMatchObject({ detail: expect.stringContaining(detail) });
  });
});

test('the page about schedules shows what can be read', async () => {
  const page = await readFile(
    join(import.meta.dirname, '..', '..', 'docs', 'how-to', 'schedule-a-job.md'),
    'utf8',
  );
  const [, table = ''] = /## When it runs\n\n([\s\S]*?)\n\n/.exec(page) ?? [];
  const shown = [...table.matchAll(/^\| (`.*?`) \|/gm)].flatMap(([, cell = '']) =>
    [...cell.matchAll(/`([^`]+)`/g)].map(([, code = '']) => code),
  );
  expect(shown.length).toBeGreaterThan(10);
  for (const expression of shown) expect(ticksOf(expression).next(0), expression).toBeDefined();
});

test('the shortest pause between ticks is known, seconds and nicknames included', () => {
  const pause = (expression: string) => shortestPause(ticksOf(expression), Date.UTC(2026, 10, 21)) / 1000;
  expect(pause('* * * * *')).toBe(60);
  expect(pause('@hourly')).toBe(3600);
  expect(pause('*/5 * * * * *')).toBe(5);
  expect(pause('0,59 * * * * *')).toBe(1);
  expect(pause('30 0 9 * * *')).toBe(86_400);
});

test('ticks read backwards are those read forwards, whatever the clocks do', () => {
  const zone = fc.constantFrom(
    'Europe/Berlin',
    'America/New_York',
    'Australia/Lord_Howe',
    'Africa/Cairo',
    'America/Santiago',
    'UTC',
  );
  const minute = fc.integer({ min: 0, max: 59 });
  const hour = fc.integer({ min: 0, max: 3 });
  const expression = fc.oneof(
    fc.tuple(minute, hour).map(([m, h]) => `${m} ${h} * * *`),
    fc.tuple(minute, minute, hour).map(([m, n, h]) => `${m},${n} ${h}-${h + 2} * * *`),
    fc.tuple(fc.integer({ min: 1, max: 59 }), hour).map(([step, h]) => `*/${step} ${h} * * *`),
    minute.map((m) => `${m} * * * *`),
  );
  const from = fc.integer({ min: Date.UTC(2026, 0, 1), max: Date.UTC(2027, 0, 1) });
  fc.assert(
    fc.property(zone, expression, from, (timezone, text, start) => {
      const ticks = ticksOf(text, timezone);
      const forwards: number[] = [];
      for (let at = ticks.next(start); at !== undefined && forwards.length < 8; at = ticks.next(at)) {
        expect(at).toBeGreaterThan(forwards.at(-1) ?? start);
        forwards.push(at);
      }
      expect([...ticks.upTo(forwards.at(-1) ?? start, 8)].reverse()).toEqual(forwards);
      expect(ticks.upTo((forwards[1] ?? 0) - 1, 1)).toEqual([forwards[0]]);
    }),
    { numRuns: 300 },
  );
});
