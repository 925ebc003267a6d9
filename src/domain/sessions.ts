import { type Static, Type } from 'typebox';
import { accept, type Decision, type Fold, refuse } from './decision.ts';
import type { FoldMeta } from './event.ts';

/** Hashes of refresh tokens (SHA-256, hex); the tokens themselves are never stored. */
const TokenHash = Type.String({ pattern: '^[0-9a-f]{64}$', maxLength: 64 });
const Time = Type.String({ maxLength: 30 });

export const SessionStarted = Type.Object({
  accountId: Type.String({ maxLength: 80 }),
  refreshHash: TokenHash,
  expiresAt: Time,
});
export const SessionRefreshed = Type.Object({ refreshHash: TokenHash, expiresAt: Time });
export const SessionEnded = Type.Object({
  reason: Type.Enum(['logged_out', 'token_reused', 'password_changed', 'erased']),
});

export type SessionEvent =
  | { type: 'SessionStarted'; data: Static<typeof SessionStarted> }
  | { type: 'SessionRefreshed'; data: Static<typeof SessionRefreshed> }
  | { type: 'SessionEnded'; data: Static<typeof SessionEnded> };

export type Session =
  | { phase: 'none' }
  | {
      phase: 'active';
      accountId: string;
      refreshHash: string;
      /** The hash before the newest, and until when it is still taken: a client may have lost the answer. */
      previous?: { hash: string; refreshedAt: string };
      expiresAt: string;
    }
  | { phase: 'ended'; accountId: string };

/** How long the token before the newest is still taken, in milliseconds. */
export const REFRESH_GRACE_MS = 10_000;

export const sessionFold: Fold<Session, SessionEvent & FoldMeta> = {
  fold: 1,
  initial: { phase: 'none' },
  evolve(state, event) {
    switch (event.type) {
      case 'SessionStarted':
        return { phase: 'active', ...event.data };
      case 'SessionRefreshed':
        if (state.phase !== 'active') return state;
        return {
          ...state,
          ...event.data,
          previous: { hash: state.refreshHash, refreshedAt: event.at },
        };
      case 'SessionEnded':
        return state.phase === 'active' ? { phase: 'ended', accountId: state.accountId } : state;
    }
  },
};

export function startSession(state: Session, data: Static<typeof SessionStarted>): Decision<SessionEvent> {
  if (state.phase !== 'none') return accept();
  return accept({ type: 'SessionStarted', data });
}

/**
 * Rotates the refresh token. A token that was used up ends the whole session, since one of its two users is
 * a thief; only the immediate predecessor is forgiven, for `REFRESH_GRACE_MS`: nothing then happens, as its
 * successor stands. Were another one made instead, of three tabs that refresh at once the third would be taken
 * for the thief, and the token that the first one holds would soon count as used.
 * @param input.nextHash of the one token that may follow the presented one
 */
export function refreshSession(
  state: Session,
  input: { presentedHash: string; nextHash: string; now: string; expiresAt: string },
): Decision<SessionEvent> {
  if (state.phase !== 'active' || state.expiresAt <= input.now) {
    return refuse('session_ended', 'This session has ended. Log in again.');
  }
  const forgiven =
    state.previous?.hash === input.presentedHash &&
    state.refreshHash === input.nextHash &&
    Date.parse(input.now) - Date.parse(state.previous.refreshedAt) <= REFRESH_GRACE_MS;
  if (forgiven) return accept();
  if (state.refreshHash !== input.presentedHash) {
    return accept({ type: 'SessionEnded', data: { reason: 'token_reused' } });
  }
  return accept({
    type: 'SessionRefreshed',
    data: { refreshHash: input.nextHash, expiresAt: input.expiresAt },
  });
}

export function endSession(
  state: Session,
  reason: Static<typeof SessionEnded>['reason'],
): Decision<SessionEvent> {
  if (state.phase !== 'active') return accept();
  return accept({ type: 'SessionEnded', data: { reason } });
}
