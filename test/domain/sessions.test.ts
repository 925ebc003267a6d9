import { describe, expect, it } from 'vitest';
import {
  endSession,
  refreshSession,
  type Session,
  type SessionEvent,
  sessionFold,
  startSession,
} from '../../src/domain/sessions.ts';

const hash = (digit: string) => digit.repeat(64);
const at = (seconds: number) => new Date(Date.UTC(2026, 0, 1) + seconds * 1000).toISOString();
const begun: SessionEvent = {
  type: 'SessionStarted',
  data: { accountId: 'acc-00a', refreshHash: hash('a'), expiresAt: at(1000) },
};
const refreshed = (digit: string): SessionEvent => ({
  type: 'SessionRefreshed',
  data: { refreshHash: hash(digit), expiresAt: at(2000) },
});

function given(...events: [SessionEvent, number][]): Session {
  return events.reduce<Session>(
    (state, [event, seconds]) => sessionFold.evolve(state, { ...event, at: at(seconds), correlation: 'c' }),
    sessionFold.initial,
  );
}
const present = (state: Session, digit: string, seconds: number, next = 'f') =>
  refreshSession(state, {
    presentedHash: hash(digit),
    nextHash: hash(next),
    now: at(seconds),
    expiresAt: at(9000),
  });

describe('a session', () => {
  it('is started once', () => {
    expect(startSession(given(), begun.data as never)).toMatchObject({ events: [begun] });
    expect(startSession(given([begun, 0]), begun.data as never)).toEqual({ ok: true, events: [] });
  });

  it('trades its newest token for a new one', () => {
    expect(present(given([begun, 0]), 'a', 5)).toMatchObject({
      events: [{ type: 'SessionRefreshed', data: { refreshHash: hash('f') } }],
    });
  });

  it('forgives the token before the newest for ten seconds, and changes nothing', () => {
    const state = given([begun, 0], [refreshed('b'), 100]);
    expect(present(state, 'a', 110, 'b')).toEqual({ ok: true, events: [] });
    expect(present(state, 'a', 111, 'b')).toMatchObject({
      events: [{ type: 'SessionEnded', data: { reason: 'token_reused' } }],
    });
  });

  it('ends when a used token comes back', () => {
    const state = given([begun, 0], [refreshed('b'), 100], [refreshed('c'), 101]);
    expect(present(state, 'a', 102)).toMatchObject({ events: [{ type: 'SessionEnded' }] });
  });

  it('refuses every token once it has ended or expired', () => {
    expect(present(given([begun, 0]), 'a', 1000)).toMatchObject({
      ok: false,
      refusal: { code: 'session_ended' },
    });
    const ended = given([begun, 0], [{ type: 'SessionEnded', data: { reason: 'logged_out' } }, 1]);
    expect(present(ended, 'a', 2)).toMatchObject({ ok: false, refusal: { code: 'session_ended' } });
  });

  it('is ended once', () => {
    expect(endSession(given([begun, 0]), 'logged_out')).toMatchObject({ events: [{ type: 'SessionEnded' }] });
    expect(
      endSession(
        given([begun, 0], [{ type: 'SessionEnded', data: { reason: 'logged_out' } }, 1]),
        'logged_out',
      ),
    ).toEqual({ ok: true, events: [] });
  });
});
