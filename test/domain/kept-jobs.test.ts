import { describe, expect, it } from 'vitest';
import type { JobEvent } from '../../src/domain/jobs/events.ts';
import { readJob, writeJob } from '../../src/domain/jobs/kept.ts';
import { type Job, jobFold } from '../../src/domain/jobs/state.ts';

const at = '2026-11-20T12:00:00.000Z';
const meta = { at, owner: 'acc-00owner0000000000000', correlation: 'c0ffee' };
const enqueued: JobEvent = {
  type: 'JobEnqueued',
  data: {
    type: 'echo',
    payload: { text: 'é', list: [1, null] },
    queue: 'default',
    priority: 'normal',
    maxAttempts: 3,
    timeoutSeconds: 60,
  },
};
const started = (attempt: number, recovered = false): JobEvent => ({
  type: 'JobStarted',
  data: { type: 'echo', attempt, worker: 'w', recovered, ...(recovered ? { alone: true } : {}) },
});
const error = { name: 'Error', message: 'no' };

const histories: Record<string, readonly JobEvent[]> = {
  waits: [enqueued],
  'waits for its time': [
    { ...enqueued, data: { ...enqueued.data, runAt: '2026-11-21T00:00:00.000Z' } } as JobEvent,
  ],
  'has a key of each kind': [
    {
      ...enqueued,
      data: { ...enqueued.data, orderingKey: 'k', lane: 'ab'.repeat(16), concurrencyKey: 'c' },
    } as JobEvent,
  ],
  runs: [enqueued, started(1)],
  'runs alone': [enqueued, started(1), started(1, true), started(1, true)],
  'is to end': [enqueued, started(1), { type: 'JobCancelRequested', data: { type: 'echo' } }],
  'is tried again': [
    enqueued,
    started(1),
    { type: 'JobAttemptFailed', data: { type: 'echo', attempt: 1, error, retryAt: at } },
  ],
  'is a dead letter': [
    enqueued,
    started(1),
    { type: 'JobDeadLettered', data: { type: 'echo', attempt: 1, error } },
  ],
  'is discarded': [
    enqueued,
    started(1),
    { type: 'JobDeadLettered', data: { type: 'echo', attempt: 1, error } },
    { type: 'JobDiscarded', data: { type: 'echo' } },
  ],
  'was cancelled': [enqueued, { type: 'JobCancelled', data: { type: 'echo', attempts: 0 } }],
  'has ended well': [
    enqueued,
    started(1),
    { type: 'JobCompleted', data: { type: 'echo', attempt: 1, result: {} } },
  ],
};

describe('the state of a job, as Redis keeps it', () => {
  for (const [what, events] of Object.entries(histories)) {
    for (const { owner, ...installation } of [meta, { ...meta, owner: undefined }]) {
      it(`is the same when read again: it ${what}${owner ? '' : ', and is nobody’s'}`, () => {
        const whose = owner === undefined ? installation : { ...installation, owner };
        const state = events.reduce<Job>(
          (before, event) => jobFold.evolve(before, { ...event, ...whose }),
          jobFold.initial,
        );
        expect(readJob(writeJob(state))).toStrictEqual(state);
      });
    }
  }

  it('takes little beside its payload', () => {
    const state = jobFold.evolve(jobFold.initial, { ...enqueued, ...meta });
    expect(writeJob(state).length - JSON.stringify(enqueued.data.type).length).toBeLessThan(180);
  });
});
