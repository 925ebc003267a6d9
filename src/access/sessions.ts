import type { SessionId } from '../domain/ids.ts';
import type { Session } from '../domain/sessions.ts';
import type { Caller } from './tokens.ts';

/**
 * `unknown`: Redis can't say. Queries then go on for the few minutes that the access token is good for;
 * commands can't be carried out anyway.
 */
export type SessionStanding = 'active' | 'ended' | 'unknown';

export type SessionCheck = (caller: Caller) => Promise<SessionStanding>;

/**
 * Asks on each request whether the session still stands, so that an ended session's access token stops
 * working at once.
 * @param loadSession the session's state from the write side
 * @param isOutage tells errors that mean "the store is away" from bugs, which are thrown on
 */
export function createSessionCheck(
  loadSession: (id: SessionId) => Promise<Session>,
  isOutage: (error: unknown) => boolean,
  now: () => number = () => Date.now(),
): SessionCheck {
  return async ({ accountId, sessionId }) => {
    let session: Session;
    try {
      session = await loadSession(sessionId);
    } catch (error) {
      if (isOutage(error)) return 'unknown';
      throw error;
    }
    if (session.phase !== 'active' || session.accountId !== accountId) return 'ended';
    return Date.parse(session.expiresAt) > now() ? 'active' : 'ended';
  };
}
