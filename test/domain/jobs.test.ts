import { describe, expect, it } from 'vitest';
import type { JobEvent } from '../../src/domain/jobs/events.ts';
import { cancelJob, discardJob, enqueueJob, retryJob } from '../../src/domain/jobs/requests.ts';
import {
  completeJob,
  endCancelledJob,
  failJob,
  interruptJob,
  progressJob,
  snoozeJob,
  startJob,
} from '../../src/domain/jobs/runs.ts';
import { holdsItsLane, type Job, jobFold, jobIsFinished } from '../../src/domain/jobs/state.ts';

const meta = { at: '2026-01-01T00:00:00.000Z', owner: 'acc-00a', correlation: 'c' };
const spec = {
  type: 'echo',
  payload: { a: 1 },
  queue: 'default',
  priority: 'normal',
  maxAttempts: 2,
  timeoutSeconds: 60,
} as const;
const enqueued: JobEvent = { type: 'JobEnqueued', data: spec };
const started = (attempt: number, recovered = false): JobEvent => ({
  type: 'JobStarted',
  data: { type: 'echo', attempt, worker: 'w', recovered, ...(recovered ? { alone: true } : {}) },
});
const later = '2026-01-01T00:01:00.000Z';
const error = { name: 'Error', message: 'no' };

function given(...events: JobEvent[]): Job {
  return events.reduce<Job>((state, event) => jobFold.evolve(state, { ...event, ...meta }), jobFold.initial);
}

describe('a job', () => {
  it('is enqueued once, however often that is said', () => {
    expect(enqueueJob(given(), spec)).toEqual({ ok: true, events: [enqueued] });
    expect(enqueueJob(given(enqueued), spec)).toEqual({ ok: true, events: [] });
  });

  it('remembers who asked for it and in the course of what', () => {
    expect(given(enqueued)).toMatchObject({
      phase: 'queued',
      spec: { owner: 'acc-00a', correlation: 'c', payload: { a: 1 } },
    });
  });

  it('counts a start as an attempt', () => {
    expect(startJob(given(enqueued), 'w')).toEqual({ ok: true, events: [started(1)] });
  });

  it('does not count a recovery as an attempt', () => {
    expect(startJob(given(enqueued, started(1)), 'w')).toEqual({ ok: true, events: [started(1, true)] });
  });

  it('retries while it has attempts left', () => {
    const decision = failJob(given(enqueued, started(1)), { error, retryAt: later, final: false });
    expect(decision).toEqual({
      ok: true,
      events: [{ type: 'JobAttemptFailed', data: { type: 'echo', attempt: 1, error, retryAt: later } }],
    });
  });

  it('becomes a dead letter after its last attempt', () => {
    const state = given(
      enqueued,
      started(1),
      { type: 'JobAttemptFailed', data: { type: 'echo', attempt: 1, error, retryAt: later } },
      started(2),
    );
    expect(failJob(state, { error, retryAt: later, final: false })).toMatchObject({
      ok: true,
      events: [{ type: 'JobDeadLettered', data: { attempt: 2 } }],
    });
  });

  it('becomes a dead letter at once when trying again is of no use', () => {
    expect(failJob(given(enqueued, started(1)), { error, retryAt: later, final: true })).toMatchObject({
      events: [{ type: 'JobDeadLettered' }],
    });
  });

  it('accepts one result and refuses every other', () => {
    const running = given(enqueued, started(1));
    const done = completeJob(running, { rows: 3 });
    if (!done.ok) throw new Error('refused');
    const state = given(enqueued, started(1), ...done.events);
    expect(jobIsFinished(state)).toBe(true);
    for (const again of [
      completeJob(state, {}),
      progressJob(state, 50),
      startJob(state, 'w'),
      failJob(state, { error, retryAt: later, final: false }),
    ]) {
      expect(again).toMatchObject({ ok: false, refusal: { code: 'job_finished' } });
    }
  });

  it('keeps its progress between 0 and 100', () => {
    const running = given(enqueued, started(1));
    expect(progressJob(running, 130)).toMatchObject({ events: [{ data: { progress: 100 } }] });
    expect(progressJob(running, -1)).toMatchObject({ events: [{ data: { progress: 0 } }] });
  });
});

const dead: JobEvent = { type: 'JobDeadLettered', data: { type: 'echo', attempt: 2, error } };
const asked: JobEvent = { type: 'JobCancelRequested', data: { type: 'echo' } };
const cancelled = (attempts: number): JobEvent => ({
  type: 'JobCancelled',
  data: { type: 'echo', attempts },
});
const failedOnce: JobEvent = {
  type: 'JobAttemptFailed',
  data: { type: 'echo', attempt: 1, error, retryAt: later },
};

describe('a job with a time', () => {
  it('is scheduled, and due then', () => {
    const scheduled: JobEvent = { type: 'JobEnqueued', data: { ...spec, runAt: later } };
    expect(given(scheduled)).toMatchObject({ phase: 'scheduled', dueAt: Date.parse(later) });
    expect(given(enqueued)).toMatchObject({ phase: 'queued', dueAt: Date.parse(meta.at) });
  });
});

describe('cancelling a job', () => {
  it.each([
    ['queued', [enqueued], 0],
    ['scheduled', [{ type: 'JobEnqueued', data: { ...spec, runAt: later } } as JobEvent], 0],
    ['retrying', [enqueued, started(1), failedOnce], 1],
  ])('that is %s ends it at once', (_phase, events, attempts) => {
    expect(cancelJob(given(...events))).toEqual({ ok: true, events: [cancelled(attempts)] });
  });

  it('that runs asks for its end; asking again changes nothing', () => {
    const running = given(enqueued, started(1));
    expect(cancelJob(running)).toEqual({ ok: true, events: [asked] });
    expect(cancelJob(given(enqueued, started(1), asked))).toEqual({ ok: true, events: [] });
  });

  it('that has ended is refused, whichever way it has', () => {
    const done: JobEvent = { type: 'JobCompleted', data: { type: 'echo', attempt: 1, result: 1 } };
    for (const last of [done, dead, cancelled(1)]) {
      expect(cancelJob(given(enqueued, started(1), last))).toMatchObject({
        ok: false,
        refusal: { code: 'job_finished' },
      });
    }
  });

  it('that is asked for first wins over the result, over a failure, and over a recovery', () => {
    const state = given(enqueued, started(1), asked);
    for (const decision of [
      completeJob(state, { rows: 1 }),
      failJob(state, { error, retryAt: later, final: false }),
      startJob(state, 'w'),
      endCancelledJob(state),
    ]) {
      expect(decision).toEqual({ ok: true, events: [cancelled(1)] });
    }
    expect(progressJob(state, 50)).toEqual({ ok: true, events: [] });
  });

  it('that has ended leaves nothing to be run', () => {
    const state = given(enqueued, cancelled(0));
    expect(jobIsFinished(state)).toBe(true);
    for (const decision of [startJob(state, 'w'), completeJob(state, 1), endCancelledJob(state)]) {
      expect(decision).toMatchObject({ ok: false });
    }
  });
});

describe('retrying a job', () => {
  const retried = (events: JobEvent[], now = later) => {
    const decision = retryJob(given(...events), now);
    if (!decision.ok) throw new Error(decision.refusal.code);
    return given(...events, ...decision.events);
  };

  it('that failed gives it all its attempts again, numbered on', () => {
    const failed = [enqueued, started(1), failedOnce, started(2), dead];
    const decision = retryJob(given(...failed), later);
    expect(decision).toMatchObject({ events: [{ type: 'JobRetried', data: { attempts: 2 } }] });
    const events = decision.ok ? decision.events : [];
    const third = given(...failed, ...events, started(3));
    expect(failJob(third, { error, retryAt: later, final: false })).toMatchObject({
      events: [{ type: 'JobAttemptFailed', data: { attempt: 3 } }],
    });
    const fourth = given(...failed, ...events, started(4));
    expect(failJob(fourth, { error, retryAt: later, final: false })).toMatchObject({
      events: [{ type: 'JobDeadLettered', data: { attempt: 4 } }],
    });
  });

  it('that was cancelled enqueues it under another time, so that the entry left behind is told from the new one', () => {
    expect(retried([enqueued, cancelled(0)], meta.at)).toMatchObject({
      phase: 'queued',
      dueAt: Date.parse(meta.at) + 1,
    });
    expect(retried([enqueued, cancelled(0)])).toMatchObject({ dueAt: Date.parse(later) });
  });

  it('that was cancelled before its time makes it due now', () => {
    const scheduled: JobEvent = { type: 'JobEnqueued', data: { ...spec, runAt: '2030-01-01T00:00:00.000Z' } };
    expect(retried([scheduled, cancelled(0)])).toMatchObject({ phase: 'queued', dueAt: Date.parse(later) });
  });

  it('that waits, runs or has succeeded is refused', () => {
    const done: JobEvent = { type: 'JobCompleted', data: { type: 'echo', attempt: 1, result: 1 } };
    for (const events of [[enqueued], [enqueued, started(1)], [enqueued, started(1), done]]) {
      expect(retryJob(given(...events), later)).toMatchObject({ refusal: { code: 'job_not_retryable' } });
    }
  });
});

describe('a run that ended without a word', () => {
  const interrupted: JobEvent = {
    type: 'JobInterrupted',
    data: { type: 'echo', attempt: 1, worker: 'w' },
  };

  it('is begun again alone, as the same attempt', () => {
    expect(startJob(given(enqueued, started(1)), 'w')).toMatchObject({
      events: [{ type: 'JobStarted', data: { attempt: 1, recovered: true, alone: true } }],
    });
  });

  it('is a dead letter once it took down three processes that it had to itself', () => {
    const twice = given(enqueued, started(1), started(1, true), started(1, true));
    expect(startJob(twice, 'w')).toMatchObject({ events: [{ type: 'JobStarted' }] });
    const thrice = given(enqueued, started(1), started(1, true), started(1, true), started(1, true));
    expect(startJob(thrice, 'w')).toMatchObject({
      events: [{ type: 'JobDeadLettered', data: { attempt: 1, reason: 'takedowns' } }],
    });
  });

  it('counts for nothing where the worker said that it could not wait, however often', () => {
    const drained = [started(1), interrupted];
    const state = given(enqueued, ...drained, ...drained, ...drained, ...drained);
    expect(startJob(state, 'w')).toEqual({ ok: true, events: [started(1)] });
  });

  it('stays alone when it was interrupted, and no longer after an attempt that ended with a word', () => {
    const alone = given(enqueued, started(1), started(1, true), interrupted);
    expect(startJob(alone, 'w')).toMatchObject({ events: [{ data: { recovered: false, alone: true } }] });
    const failed = given(enqueued, started(1), started(1, true), failedOnce);
    expect(startJob(failed, 'w')).toEqual({ ok: true, events: [started(2)] });
  });

  it('is not recorded as interrupted when the job was to end', () => {
    expect(interruptJob(given(enqueued, started(1), asked), 'w')).toEqual({
      ok: true,
      events: [cancelled(1)],
    });
  });
});

describe('snoozing', () => {
  it('puts a run off and is no attempt', () => {
    const snoozed = snoozeJob(given(enqueued, started(1)), later);
    if (!snoozed.ok) throw new Error('refused');
    const state = given(enqueued, started(1), ...snoozed.events);
    expect(state).toMatchObject({ phase: 'scheduled', attempts: 0, dueAt: Date.parse(later) });
    expect(startJob(state, 'w')).toEqual({ ok: true, events: [started(1)] });
  });
});

describe('discarding', () => {
  const discarded: JobEvent = { type: 'JobDiscarded', data: { type: 'echo' } };

  it('gives a dead letter up, once; its ordering key is free then', () => {
    const letter = given(enqueued, started(1), dead);
    expect(holdsItsLane(letter)).toBe(true);
    expect(discardJob(letter)).toEqual({ ok: true, events: [discarded] });
    const givenUp = given(enqueued, started(1), dead, discarded);
    expect(discardJob(givenUp)).toEqual({ ok: true, events: [] });
    expect(holdsItsLane(givenUp)).toBe(false);
  });

  it('is refused for what is no dead letter', () => {
    expect(discardJob(given(enqueued))).toMatchObject({ ok: false, refusal: { code: 'job_not_dead' } });
  });
});

describe('a job with a callback', () => {
  const callbackUrl = 'https://hooks.example.com/a';
  const withCallback: JobEvent = { type: 'JobEnqueued', data: { ...spec, callbackUrl } };

  it('says in its end who is to be told of it, however it ends', () => {
    const running = given(withCallback, started(1));
    const final = { error, retryAt: later, final: true };
    const tookDown = given(withCallback, started(1), started(1, true), started(1, true), started(1, true));
    const ends = [
      completeJob(running, 1),
      failJob(running, final),
      endCancelledJob(running),
      cancelJob(given(withCallback)),
      startJob(tookDown, 'w'),
    ];
    expect(ends).toMatchObject(
      ['JobCompleted', 'JobDeadLettered', 'JobCancelled', 'JobCancelled', 'JobDeadLettered'].map((type) => ({
        events: [{ type, data: { callbackUrl } }],
      })),
    );
  });

  it('says so nowhere else, and one without says it never', () => {
    const running = given(withCallback, started(1));
    const retried = failJob(running, { error, retryAt: later, final: false });
    expect(
      JSON.stringify([retried, progressJob(running, 1), startJob(given(withCallback), 'w')]),
    ).not.toContain('callbackUrl');
    expect(JSON.stringify(completeJob(given(enqueued, started(1)), 1))).not.toContain('callbackUrl');
  });
});
