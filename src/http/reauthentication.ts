import type { FastifyRequest } from 'fastify';
import type { Caller } from '../access/tokens.ts';
import type { SessionId } from '../domain/ids.ts';
import type { Session } from '../domain/sessions.ts';
import { readToken } from './authentication.ts';
import { Problem } from './problems.ts';

/** How long after a log-in its access token says that it was this person just now. */
export const REAUTHENTICATION_SECONDS = 300;

/**
 * Whether a token is that of a log-in by which the caller has shown anew who they are, however one logs in: of the same account,
 * in another session than the one that asks, begun within `REAUTHENTICATION_SECONDS` and never refreshed, as a refresh proves
 * nothing of a person. Of that session it is the first token, so the session began when it was issued.
 */
export async function isReauthenticated(
  deps: {
    readonly loadSession: (id: SessionId) => Promise<{ readonly state: Session }>;
    readonly now?: () => number;
  },
  request: FastifyRequest,
  caller: Caller,
  token: string,
): Promise<boolean> {
  const { loadSession, now = () => Date.now() } = deps;
  const again = await readToken(request, token).catch((error: unknown) => {
    if (error instanceof Problem && error.cause === undefined) return undefined;
    throw error;
  });
  if (!again || again.accountId !== caller.accountId || again.sessionId === caller.sessionId) return false;
  if (now() - again.issuedAt > REAUTHENTICATION_SECONDS * 1000) return false;
  const { state } = await loadSession(again.sessionId);
  return state.phase === 'active' && state.accountId === caller.accountId && state.previous === undefined;
}
