import { describe, expect, it } from 'vitest';
import { pauseQueue, type Queue, type QueueEvent, queueFold, resumeQueue } from '../../src/domain/queues.ts';

const at = '2026-01-01T00:00:00.000Z';
const paused: QueueEvent = { type: 'QueuePaused', data: { queue: 'email' } };
const resumed: QueueEvent = { type: 'QueueResumed', data: { queue: 'email' } };
const given = (...events: QueueEvent[]): Queue =>
  events.reduce(
    (state, event) => queueFold.evolve(state, { ...event, at, correlation: 'c' }),
    queueFold.initial,
  );

describe('a queue', () => {
  it('is open until it is paused, and again once it is resumed', () => {
    expect(given()).toEqual({ phase: 'open' });
    expect(given(paused)).toEqual({ phase: 'paused', since: at });
    expect(given(paused, resumed)).toEqual({ phase: 'open' });
  });

  it('is paused and resumed once, however often it is asked for', () => {
    expect(pauseQueue(given(), 'email')).toEqual({ ok: true, events: [paused] });
    expect(pauseQueue(given(paused), 'email')).toEqual({ ok: true, events: [] });
    expect(resumeQueue(given(paused), 'email')).toEqual({ ok: true, events: [resumed] });
    expect(resumeQueue(given(), 'email')).toEqual({ ok: true, events: [] });
  });
});
