import type { SessionId } from '../domain/ids.ts';
import type { Session } from '../domain/sessions.ts';
import type { Caller } from './tokens.ts';

/**
 * `away`, `fenced`: the event store can't say, or may not be trusted. Queries then go on for the few minutes that the
 * access token is good for; commands can't be carried out anyway.
 */
export type SessionStanding = 'active' | 'ended' | StoreOutage;
export type StoreOutage = 'away' | 'fenced';

export type SessionCheck = (caller: Caller) => Promise<SessionStanding>;

/**
 * Asks on each request whether the session still stands, so that an ended session's access token stops
 * working at once.
 * @param loadSession the session's state from the write side
 * @param outageOf tells errors that mean that the store can't be asked from bugs, which are thrown on
 */
export function createSessionCheck(
  loadSession: (id: SessionId) => Promise<Session>,
  outageOf: (error: unknown) => StoreOutage | undefined,
  now: () => number = () => Date.now(),
): SessionCheck {
  return async ({ accountId, sessionId }) => {
    let session: Session;
    try {
      session = await loadSession(sessionId);
    } catch (error) {
      const outage = outageOf(error);
      if (outage) return outage;
      throw error;
    }
    if (session.phase !== 'active' || session.accountId !== accountId) return 'ended';
    return Date.parse(session.expiresAt) > now() ? 'active' : 'ended';
  };
}
