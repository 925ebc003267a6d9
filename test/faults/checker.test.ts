import { describe, expect, it } from 'vitest';
import type { RawEvent } from '../../src/domain/event.ts';
import { codec } from '../../src/domain/events.ts';
import type { EventId, StreamId } from '../../src/domain/ids.ts';
import { hashBatch } from '../../src/eventstore/ledger-hash.ts';
import { foldBatch, readBatch } from '../../src/projections/fold.ts';
import { projection as jobs } from '../../src/projections/jobs/table.ts';
import { check } from './check.ts';
import type { Count, Effect, History } from './history.ts';
import type { Promised } from './load.ts';

const A = 'job-00aaaaaaaaaaaaaaaaaaaa';
const B = 'job-00bbbbbbbbbbbbbbbbbbbb';
const TYPE = 'faults.work';
const NOON = Date.parse('2026-11-21T12:00:00.000Z');

type Step = readonly [jobId: string, type: string, data?: Record<string, unknown>];

/** A history of these events, in this order, as an installation leaves one in which all is well. */
function historyOf(steps: readonly Step[], more: Partial<History> = {}): History {
  const versions = new Map<string, number>();
  const events = steps.map(([jobId, type, data = {}], index): RawEvent => {
    const version = (versions.get(jobId) ?? 0) + 1;
    versions.set(jobId, version);
    const at = new Date(NOON + index).toISOString();
    return {
      partition: 0,
      epoch: 1,
      seq: index + 1,
      id: `event-${index + 1}` as EventId,
      streamId: jobId as StreamId,
      version,
      type,
      data: JSON.stringify({ type: TYPE, ...data }),
      meta: JSON.stringify({ schema: 1, at, actor: 'test', correlation: 'c' }),
    };
  });
  return { ...recordsOf(events), ...leftByHandlers(steps), ...more };
}

function recordsOf(events: readonly RawEvent[]) {
  const { rows } = foldBatch(jobs, readBatch(jobs, codec, events), { rows: new Map(), blocked: new Set() });
  const last = new Map(events.map((event) => [event.streamId, event]));
  const previous = Buffer.alloc(32);
  return {
    events,
    log: events,
    logHeads: [events.length],
    heads: [...last.values()].map(({ streamId, version, seq }) => ({ streamId, version, seq })),
    chain: [{ partition: 0, first: 1, last: events.length, previous, hash: hashBatch(previous, events) }],
    readModels: [{ projection: jobs, rows: [...rows.values()] }],
    parked: 0,
  };
}

/** What handlers and clients would say of it: each start was a run, each job was asked for and acknowledged. */
function leftByHandlers(steps: readonly Step[]) {
  const effects = steps.flatMap(([job, type, data = {}], index): Effect[] => {
    if (type !== 'JobStarted') return [];
    const by = `${String(data.worker).split('#')[0]}.7`;
    const said = { job, attempt: Number(data.attempt), by, run: `${job} ${data.attempt} ${data.worker}` };
    return [{ ...said, what: 'begin', at: NOON + index }];
  });
  const promises = steps.flatMap(([jobId, type, data], index): Promised[] =>
    type === 'JobEnqueued'
      ? [{ n: nOf(data), outcome: 'acknowledged', jobIds: [jobId], at: NOON + index }]
      : [],
  );
  return { effects, promises, asked: [], leftovers: [], oddities: [], crashes: [] };
}

function nOf(data: Record<string, unknown> | undefined): number {
  const payload: { n?: unknown } = { ...(data?.payload ?? {}) };
  return Number(payload.n);
}

const enqueued = (job: string, n: number, more: Record<string, unknown> = {}): Step => [
  job,
  'JobEnqueued',
  {
    payload: { n, steps: [] },
    queue: 'default',
    priority: 'normal',
    maxAttempts: 3,
    timeoutSeconds: 9,
    ...more,
  },
];
const started = (job: string, worker = 'worker-1#a', attempt = 1, recovered = false): Step => [
  job,
  'JobStarted',
  { attempt, worker, recovered },
];
const completed = (job: string, worker = 'worker-1#a', attempt = 1): Step => [
  job,
  'JobCompleted',
  { attempt, result: { run: `${job} ${attempt} ${worker}`, by: `${worker.split('#')[0]}.7` } },
];
const failed = (job: string, retryAt: number, attempt = 1): Step => [
  job,
  'JobAttemptFailed',
  { attempt, error: { name: 'Error', message: '' }, retryAt: new Date(retryAt).toISOString() },
];

const good: readonly Step[] = [enqueued(A, 1), started(A), completed(A)];
const keyed = { orderingKey: 'k' };
const twoOfAKey: readonly Step[] = [enqueued(A, 1, keyed), enqueued(B, 2, keyed)];

const counted = (history: History): Partial<Record<Count, number>> => {
  const counts: Partial<Record<Count, number>> = {};
  for (const { count } of check(history)) counts[count] = (counts[count] ?? 0) + 1;
  return counts;
};

const promised = (n: number, more: Partial<Promised>): Promised => ({
  n,
  outcome: 'acknowledged',
  jobIds: [],
  at: NOON,
  ...more,
});

describe('the checker counts nothing', () => {
  it('of jobs that ended well, were retried, recovered by another worker, cancelled, or redriven', () => {
    expect(counted(historyOf(good))).toEqual({});
    expect(
      counted(
        historyOf([
          enqueued(A, 1),
          started(A),
          failed(A, NOON),
          started(A, 'worker-2#b', 2),
          completed(A, 'worker-2#b', 2),
        ]),
      ),
    ).toEqual({});
    expect(
      counted(
        historyOf([
          enqueued(A, 1),
          started(A),
          started(A, 'worker-2#b', 1, true),
          completed(A, 'worker-2#b'),
        ]),
      ),
    ).toEqual({});
    expect(counted(historyOf([enqueued(A, 1), [A, 'JobCancelled', { attempts: 0 }]]))).toEqual({});
    expect(
      counted(
        historyOf([
          enqueued(A, 1),
          started(A),
          [A, 'JobDeadLettered', { attempt: 1, error: { name: 'Error', message: '' } }],
          [A, 'JobRetried', { attempts: 1, dueAt: new Date(NOON).toISOString() }],
          started(A, 'worker-1#a', 2),
          completed(A, 'worker-1#a', 2),
        ]),
      ),
    ).toEqual({});
    const takenDown = {
      attempt: 1,
      worker: 'worker-2#b',
      reason: 'takedowns',
      error: { name: 'E', message: '' },
    };
    expect(counted(historyOf([enqueued(A, 1), started(A), [A, 'JobDeadLettered', takenDown]]))).toEqual({});
  });

  it('of jobs of a key that follow each other, and of a scheduled one that lets an earlier one pass', () => {
    expect(counted(historyOf([...twoOfAKey, started(A), completed(A), started(B), completed(B)]))).toEqual(
      {},
    );
    const later = { ...keyed, runAt: new Date(NOON + 5_000).toISOString() };
    const effects: Effect[] = [
      { what: 'begin', job: B, attempt: 1, by: 'worker-1.7', run: `${B} 1 worker-1#a`, at: NOON + 3 },
      { what: 'begin', job: A, attempt: 1, by: 'worker-1.7', run: `${A} 1 worker-1#a`, at: NOON + 5_001 },
    ];
    const steps = [
      enqueued(A, 1, later),
      enqueued(B, 2, keyed),
      started(B),
      completed(B),
      started(A),
      completed(A),
    ];
    expect(counted(historyOf(steps, { effects }))).toEqual({});
  });

  it('of a request whose outcome its client never learnt, whether or not it stands', () => {
    const promises = [promised(1, { outcome: 'unknown' }), promised(2, { outcome: 'unknown' })];
    expect(counted(historyOf(good, { promises }))).toEqual({});
  });
});

describe('the checker counts', () => {
  it('what was acknowledged and is missing: a job, one under another id, a cancellation', () => {
    const promises = [promised(1, { jobIds: [A] }), promised(2, { jobIds: [B] })];
    expect(counted(historyOf(good, { promises }))).toEqual({ missing: 1 });
    expect(counted(historyOf(good, { promises: [promised(1, { jobIds: [B] })] }))).toEqual({ missing: 1 });
    const asked = [{ what: 'cancel', jobId: A, outcome: 'acknowledged', at: NOON }] as const;
    expect(counted(historyOf(good, { asked }))).toEqual({ missing: 1 });
  });

  it('what was refused and done all the same', () => {
    expect(counted(historyOf(good, { promises: [promised(1, { outcome: 'refused' })] }))).toEqual({
      refusedYetDone: 1,
    });
  });

  it('a request that became two jobs', () => {
    const steps = [...good, enqueued(B, 1), started(B), completed(B)];
    expect(counted(historyOf(steps, { promises: [promised(1, { jobIds: [A] })] }))).toEqual({ doubled: 1 });
  });

  it('a job that was completed twice', () => {
    expect(counted(historyOf([...good, completed(A)]))).toEqual({ completedTwice: 1 });
  });

  it('a key whose later job was started first, also while the earlier one never is', () => {
    expect(counted(historyOf([...twoOfAKey, started(B), completed(B), started(A), completed(A)]))).toEqual({
      outOfOrder: 1,
    });
    expect(counted(historyOf([...twoOfAKey, started(B), completed(B)]))).toEqual({
      outOfOrder: 1,
      unfinished: 1,
    });
  });

  it('a job that was due at once and started before one whose time had come', () => {
    const effects = leftByHandlers([started(A), started(B)]).effects;
    const due = { ...keyed, runAt: new Date(NOON).toISOString() };
    const steps = [
      enqueued(A, 1, due),
      enqueued(B, 2, keyed),
      started(B),
      completed(B),
      started(A),
      completed(A),
    ];
    expect(counted(historyOf(steps, { effects }))).toEqual({ outOfOrder: 1 });
  });

  it('two scheduled jobs of a key in the wrong order', () => {
    const at = (ms: number) => ({ ...keyed, runAt: new Date(NOON + ms).toISOString() });
    const steps = [
      enqueued(A, 1, at(900)),
      enqueued(B, 2, at(1_000)),
      started(B),
      completed(B),
      started(A),
      completed(A),
    ];
    expect(counted(historyOf(steps, { effects: [] }))).toMatchObject({ outOfOrder: 1 });
  });

  it('runs of a key that overlap, and a job that overtakes one that is to be tried again', () => {
    expect(counted(historyOf([...twoOfAKey, started(A), started(B), completed(A), completed(B)]))).toEqual({
      overlapping: 1,
    });
    const overtaken = [started(A), failed(A, NOON), started(B), completed(B), started(A, 'worker-1#a', 2)];
    expect(counted(historyOf([...twoOfAKey, ...overtaken, completed(A, 'worker-1#a', 2)]))).toEqual({
      overlapping: 1,
    });
  });

  it('the result of a worker that had lost the job to another, or to its own successor', () => {
    const zombie = [
      enqueued(A, 1),
      started(A),
      started(A, 'worker-2#b', 1, true),
      completed(A, 'worker-1#a'),
    ];
    expect(counted(historyOf(zombie))).toEqual({ stale: 1 });
    // The same INSTANCE_ID, another process: #b goes with .7 once and with .8 once.
    const steps = [
      enqueued(A, 1),
      started(A),
      completed(A),
      enqueued(B, 2),
      started(B, 'worker-1#b'),
      completed(B),
    ];
    const effects = leftByHandlers([started(A), started(B)]).effects;
    expect(counted(historyOf(steps, { effects }))).toEqual({ stale: 1 });
  });

  it('the result of a run that the same process had begun anew', () => {
    const begun = leftByHandlers([started(A)]).effects;
    const effects = [...begun, ...begun.map((effect) => ({ ...effect, run: 'another' }))];
    expect(counted(historyOf(good, { effects }))).toEqual({ stale: 1 });
  });

  it('histories that no job can have: without a start, without a run, without its enqueueing', () => {
    expect(counted(historyOf([enqueued(A, 1), completed(A)]))).toMatchObject({ illegal: 1, stale: 1 });
    expect(counted(historyOf(good, { effects: [] }))).toEqual({ illegal: 1 });
    expect(counted(historyOf([...good, started(A, 'worker-1#a', 2)]))).toMatchObject({ illegal: 1 });
    const effects = leftByHandlers([started(A), started(B)]).effects;
    expect(counted(historyOf(good, { effects }))).toEqual({ illegal: 1 });
  });

  it('more runs of a concurrency key at once than its limit', () => {
    const limited = { concurrencyKey: 'c', concurrencyLimit: 1 };
    const asked = [enqueued(A, 1, limited), enqueued(B, 2, limited)];
    const steps = [...asked, started(A), started(B), completed(A), completed(B)];
    expect(counted(historyOf(steps))).toEqual({ overLimit: 1 });
    const [a, b] = leftByHandlers([started(A), started(B)]).effects;
    if (!a || !b) throw new Error('each start is a run');
    const effects: Effect[] = [a, { ...a, what: 'end' }, b, { ...b, what: 'end' }];
    expect(counted(historyOf(steps, { effects }))).toEqual({});
  });

  it('a run before its time', () => {
    const steps = [
      enqueued(A, 1, { runAt: new Date(NOON + 60_000).toISOString() }),
      started(A),
      completed(A),
    ];
    expect(counted(historyOf(steps))).toEqual({ early: 1 });
    const retried = [enqueued(A, 1), started(A), failed(A, NOON + 9_000), started(A, 'worker-1#a', 2)];
    expect(counted(historyOf([...retried, completed(A, 'worker-1#a', 2)]))).toEqual({ early: 1 });
  });

  it('jobs that have not ended', () => {
    expect(counted(historyOf([enqueued(A, 1), started(A)]))).toEqual({ unfinished: 1 });
  });

  it('rows that are not the fold of the ledger, are missing, or have no events; and parked events', () => {
    const history = historyOf(good);
    const rows = history.readModels.flatMap((model) => model.rows);
    const withRows = (changed: typeof rows) => ({
      ...history,
      readModels: [{ projection: jobs, rows: changed }],
    });
    expect(counted(withRows(rows.map((row) => ({ ...row, version: 2 }))))).toEqual({ readModel: 1 });
    expect(counted(withRows([]))).toEqual({ readModel: 1 });
    expect(counted(withRows([...rows, { id: B }]))).toEqual({ readModel: 1 });
    expect(counted({ ...history, parked: 1 })).toEqual({ readModel: 1 });
  });

  it('gaps, doubles, wrong heads and a broken chain in the ledger', () => {
    const history = historyOf([...good, enqueued(B, 2), started(B), completed(B)]);
    const without = history.events.filter(({ seq }) => seq !== 2);
    expect(counted({ ...history, events: without, log: [] }).ledger).toBeGreaterThan(0);
    const twice = history.events.map((event) => ({ ...event, id: 'one' as EventId }));
    expect(counted({ ...history, events: twice, log: [] }).ledger).toBeGreaterThan(0);
    const heads = history.heads.map((head) => ({ ...head, version: head.version + 1 }));
    expect(counted({ ...history, heads })).toEqual({ ledger: 2 });
    const chain = history.chain.map((batch) => ({ ...batch, hash: Buffer.alloc(32) }));
    expect(counted({ ...history, chain })).toEqual({ ledger: 1 });
    const tampered = history.events.map((event) =>
      event.seq === 1 ? { ...event, meta: `${event.meta} ` } : event,
    );
    expect(counted({ ...history, events: tampered, log: [] })).toEqual({ ledger: 1 });
  });

  it('a log that differs from the ledger, or goes beyond it', () => {
    const history = historyOf(good);
    const log = history.log.map((event) => ({ ...event, meta: '{}' }));
    expect(counted({ ...history, log })).toEqual({ log: 3 });
    expect(counted({ ...history, logHeads: [4] })).toEqual({ log: 1 });
  });

  it('what was left in Redis, answers and ends of processes that no fault explains', () => {
    const history = historyOf(good, {
      leftovers: [{ key: 'mill:{0}:timers', entries: 1 }],
      oddities: ['1 × 500'],
      crashes: ['worker-1'],
    });
    expect(counted(history)).toEqual({ leftovers: 1, oddities: 1, crashes: 1 });
  });
});
