import { describe, expect, test } from 'vitest';
import { readCron } from '../../src/commands/cron.ts';
import type { JobId } from '../../src/domain/ids.ts';
import {
  createSchedule,
  deleteSchedule,
  type MissedRuns,
  type Schedule,
  type ScheduledJob,
  type ScheduleEvent,
  type ScheduleTicked,
  scheduleFold,
  tickSchedule,
} from '../../src/domain/schedules.ts';

const meta = { at: '2026-11-20T00:00:00.000Z', correlation: 'c', owner: 'acc-1' };
const job: ScheduledJob = {
  type: 'echo',
  payload: { a: 1 },
  queue: 'default',
  priority: 'normal',
  maxAttempts: 3,
  timeoutSeconds: 60,
};

function stateAfter(events: readonly ScheduleEvent[], from: Schedule = scheduleFold.initial): Schedule {
  return events.reduce((state, event) => scheduleFold.evolve(state, { ...event, ...meta }), from);
}

function created(options: { missed?: MissedRuns; next: string; cron?: string }): Schedule {
  const { missed = 'skip', next, cron = '* * * * *' } = options;
  const data = { cron, timezone: 'UTC', missed, job, next: `2026-11-20T${next}.000Z` };
  return stateAfter([{ type: 'ScheduleCreated', data }]);
}

/** Ticks until there is nothing more to do: what each event said. */
function tickAll(schedule: Schedule, now: string): ScheduleTicked[] {
  if (schedule.phase !== 'active') throw new Error(schedule.phase);
  const read = readCron(schedule.cron, schedule.timezone);
  if (!read.ok) throw new Error(read.detail);
  const said: ScheduleTicked[] = [];
  for (let state: Schedule = schedule; ; ) {
    const decision = tickSchedule(state, {
      now: Date.parse(`2026-11-${now.includes('T') ? now : `20T${now}`}.000Z`),
      ticks: read.ticks,
      jobIdOf: (tick) => `job-00${tick.replaceAll(/\D/g, '')}` as JobId,
    });
    if (!decision.ok) throw new Error(decision.refusal.detail);
    if (decision.events.length === 0) return said;
    said.push(...decision.events.flatMap(({ type, data }) => (type === 'ScheduleTicked' ? [data] : [])));
    state = stateAfter(decision.events, state);
  }
}

const runs = (said: readonly ScheduleTicked[]) =>
  said.flatMap(({ tick, jobId }) => (jobId ? [tick.slice(11, 19)] : []));
const missed = (said: readonly ScheduleTicked[]) => said.reduce((sum, each) => sum + each.missed, 0);

describe('a tick', () => {
  test('before its time does nothing', () => {
    expect(tickAll(created({ next: '09:00:00' }), '08:59:59')).toEqual([]);
  });

  test('in time enqueues one run, and knows the next tick', () => {
    expect(tickAll(created({ next: '09:00:00', cron: '0 9 * * *' }), '09:00:00')).toEqual([
      {
        ...{ tick: '2026-11-20T09:00:00.000Z', jobId: 'job-0020261120090000000', missed: 0 },
        next: '2026-11-21T09:00:00.000Z',
      },
    ]);
  });

  test.each(['skip', 'once', 'all'] as const)('up to a minute late is run all the same (%s)', (policy) => {
    const said = tickAll(created({ next: '09:00:00', cron: '0 9 * * *', missed: policy }), '09:01:00');
    expect(runs(said)).toEqual(['09:00:00']);
    expect(missed(said)).toBe(0);
  });
});

describe('after five ticks that nobody dealt with', () => {
  test('skip goes on with the one that is in time', () => {
    const said = tickAll(created({ next: '09:00:00', missed: 'skip' }), '09:04:30');
    expect(runs(said)).toEqual(['09:04:00']);
    expect(missed(said)).toBe(4);
  });

  test('skip enqueues nothing where none is in time', () => {
    const said = tickAll(created({ next: '09:00:00', cron: '0 * * * *', missed: 'skip' }), '13:20:00');
    expect(runs(said)).toEqual([]);
    expect(missed(said)).toBe(5);
    expect(said.at(-1)?.next).toBe('2026-11-20T14:00:00.000Z');
  });

  test('once enqueues one run for all of them, at the last', () => {
    const said = tickAll(created({ next: '09:00:00', cron: '0 * * * *', missed: 'once' }), '13:20:00');
    expect(runs(said)).toEqual(['13:00:00']);
    expect(missed(said)).toBe(4);
  });

  test('all enqueues one run for each, in order', () => {
    const said = tickAll(created({ next: '09:00:00', cron: '0 * * * *', missed: 'all' }), '13:20:00');
    expect(runs(said)).toEqual(['09:00:00', '10:00:00', '11:00:00', '12:00:00', '13:00:00']);
    expect(missed(said)).toBe(0);
  });
});

test('all makes up for the latest thousand, and says that there were more', () => {
  const said = tickAll(created({ next: '00:00:00', missed: 'all' }), '21T00:00:30');
  expect(runs(said)).toHaveLength(1_000);
  expect(said[0]).toMatchObject({ missed: 441 });
  expect(said[0]).not.toHaveProperty('jobId');
  expect(said.filter(({ jobId }) => jobId)[0]?.tick).toBe('2026-11-20T07:21:00.000Z');
  expect(said.at(-1)?.tick).toBe('2026-11-21T00:00:00.000Z');
});

test('a tick that is none any more, as its time zone has another rule by now, is run all the same', () => {
  expect(runs(tickAll(created({ next: '09:30:00', cron: '0 9 * * *' }), '09:30:00'))).toEqual(['09:30:00']);
});

describe('a schedule', () => {
  test('is created once, however often it is asked for', () => {
    const data = { cron: '* * * * *', timezone: 'UTC', missed: 'skip', job, next: meta.at } as const;
    expect(createSchedule(created({ next: '09:00:00' }), data)).toEqual({ ok: true, events: [] });
  });

  test('that was deleted ticks no more, and stays deleted', () => {
    const deleted = stateAfter([{ type: 'ScheduleDeleted', data: {} }], created({ next: '09:00:00' }));
    expect(deleted).toEqual({ phase: 'deleted', owner: 'acc-1' });
    expect(deleteSchedule(deleted)).toEqual({ ok: true, events: [] });
    expect(stateAfter([{ type: 'ScheduleTicked', data: { tick: meta.at, missed: 0 } }], deleted)).toEqual(
      deleted,
    );
  });

  test('that never was can not be deleted', () => {
    expect(deleteSchedule(scheduleFold.initial)).toMatchObject({
      ok: false,
      refusal: { code: 'not_found' },
    });
  });
});
