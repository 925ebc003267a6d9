import { describe, expect, it } from 'vitest';
import {
  completeJob,
  enqueueJob,
  failJob,
  type Job,
  type JobEvent,
  jobFold,
  jobIsFinished,
  progressJob,
  startJob,
} from '../../src/domain/jobs.ts';

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
  data: { type: 'echo', attempt, worker: 'w', recovered },
});
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
    const decision = failJob(given(enqueued, started(1)), { error, retryAt: 'later', final: false });
    expect(decision).toEqual({
      ok: true,
      events: [{ type: 'JobAttemptFailed', data: { type: 'echo', attempt: 1, error, retryAt: 'later' } }],
    });
  });

  it('becomes a dead letter after its last attempt', () => {
    const state = given(
      enqueued,
      started(1),
      { type: 'JobAttemptFailed', data: { type: 'echo', attempt: 1, error, retryAt: 'x' } },
      started(2),
    );
    expect(failJob(state, { error, retryAt: 'later', final: false })).toMatchObject({
      ok: true,
      events: [{ type: 'JobDeadLettered', data: { attempt: 2 } }],
    });
  });

  it('becomes a dead letter at once when trying again is of no use', () => {
    expect(failJob(given(enqueued, started(1)), { error, retryAt: 'x', final: true })).toMatchObject({
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
      failJob(state, { error, retryAt: 'x', final: false }),
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
