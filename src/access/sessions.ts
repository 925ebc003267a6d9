import { type Account, isErased } from '../domain/accounts.ts';
import type { AccountId, SessionId } from '../domain/ids.ts';
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
 * Asks on each request whether session and account still stand, so that the access token of a session that was ended, or
 * of an account that was erased, stops working at once. The account is asked about, too, as nobody could end all of its
 * sessions with the commit that erases it: one may be beginning right then.
 * @param load states from the write side
 * @param outageOf tells errors that mean that the store can't be asked from bugs, which are thrown on
 */
export function createSessionCheck(
  load: {
    readonly session: (id: SessionId) => Promise<Session>;
    readonly account: (id: AccountId) => Promise<Account>;
  },
  outageOf: (error: unknown) => StoreOutage | undefined,
  now: () => number = () => Date.now(),
): SessionCheck {
  return async ({ accountId, sessionId }) => {
    let states: [Session, Account];
    try {
      states = await Promise.all([load.session(sessionId), load.account(accountId)]);
    } catch (error) {
      const outage = outageOf(error);
      if (outage) return outage;
      throw error;
    }
    const [session, account] = states;
    if (session.phase !== 'active' || session.accountId !== accountId) return 'ended';
    if (isErased(account)) return 'ended';
    return Date.parse(session.expiresAt) > now() ? 'active' : 'ended';
  };
}
