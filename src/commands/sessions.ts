import { accountFold, emailFold, type Role } from '../domain/accounts.ts';
import { refuse } from '../domain/decision.ts';
import { type AccountId, parseStreamId, partitionOf, type SessionId } from '../domain/ids.ts';
import {
  endSession as decideEnd,
  refreshSession as decideRefresh,
  sessionFold,
  startSession,
} from '../domain/sessions.ts';
import { emailStream } from './email.ts';
import { type CommandContext, type CommandDeps, type CommandResult, changeOf, handle } from './handle.ts';
import { mintId, streamFor } from './mint.ts';

export type SessionDeps = CommandDeps & {
  /** Constant in time whether or not the account exists. Needs Postgres. */
  readonly passwordMatches: (accountId: AccountId | undefined, password: string) => Promise<boolean>;
  /** A secret of 256 bits, base64url. */
  readonly randomSecret: () => string;
  /** SHA-256, hex. */
  readonly sha256: (text: string) => string;
  readonly sessionLifetimeMs: number;
};

export type LoggedIn = {
  readonly id: SessionId;
  readonly version: number;
  readonly accountId: AccountId;
  readonly role: Role;
};
/** The refresh token is handed out once and kept nowhere; a replayed answer has none. */
export type WithRefreshToken<R> = R & { readonly refreshToken?: string };

const wrong = () => refuse('wrong_credentials', 'Email or password is wrong.');

/**
 * Logs in from the write side, so it works the instant after registering. Wrong and unknown look and last
 * the same. Refused with `wrong_credentials`.
 */
export async function login(
  deps: SessionDeps,
  context: CommandContext,
  input: { readonly email: string; readonly password: string },
): Promise<WithRefreshToken<CommandResult<LoggedIn>>> {
  const email = await deps.store.load(emailStream(deps, input.email), emailFold);
  const accountId = email.state.phase === 'claimed' ? parseStreamId(email.state.accountId, 'acc') : undefined;
  if (!(await deps.passwordMatches(accountId, input.password)) || !accountId) {
    return { kind: 'refused', refusal: wrong().refusal };
  }
  const account = await deps.store.load(accountId, accountFold);
  if (account.state.phase !== 'active') return { kind: 'refused', refusal: wrong().refusal };
  const { role } = account.state;

  const own: CommandContext = { ...context, owner: accountId, actor: accountId };
  const minted = await mintId(deps, own, 'ses', partitionOf(accountId));
  if (!minted.ok) return { kind: 'key_reused' };
  const sessionId: SessionId = minted.id;
  const refreshToken = refreshTokenOf(deps, sessionId, deps.randomSecret());
  const result = await handle<LoggedIn>(deps, own, partitionOf(sessionId), async () => {
    const session = await streamFor(deps, sessionId, sessionFold, minted.fresh);
    const now = deps.now();
    const started = startSession(session.state, {
      accountId,
      refreshHash: deps.sha256(refreshToken),
      expiresAt: new Date(now.getTime() + deps.sessionLifetimeMs).toISOString(),
    });
    if (!started.ok) return started;
    const change = changeOf(own, now.toISOString(), session, sessionFold, started.events);
    return {
      ok: true,
      plan: { changes: [change], body: { id: sessionId, version: change.version, accountId, role } },
    };
  });
  return result.kind === 'done' && !result.replayed ? { ...result, refreshToken } : result;
}

/**
 * Trades a refresh token for its successor. A token that was used before ends the session: one of its two users
 * is a thief. Refused with `session_ended` or `refresh_token_reused`.
 */
export async function refreshSession(
  deps: SessionDeps,
  context: CommandContext,
  input: { readonly refreshToken: string },
): Promise<WithRefreshToken<CommandResult<LoggedIn>>> {
  const sessionId = sessionOf(deps, input.refreshToken);
  if (!sessionId)
    return {
      kind: 'refused',
      refusal: refuse('session_ended', 'This refresh token is not one of ours.').refusal,
    };
  const before = await deps.store.load(sessionId, sessionFold);
  if (before.state.phase !== 'active') {
    return {
      kind: 'refused',
      refusal: refuse('session_ended', 'This session has ended. Log in again.').refusal,
    };
  }
  const accountId = before.state.accountId as AccountId;
  const account = await deps.store.load(accountId, accountFold);
  if (account.state.phase !== 'active') {
    return { kind: 'refused', refusal: refuse('session_ended', 'This account is no more.').refusal };
  }
  const { role } = account.state;
  const own: CommandContext = { ...context, owner: accountId, actor: accountId };
  const refreshToken = refreshTokenOf(deps, sessionId, deps.hmac('next refresh token', input.refreshToken));
  let reused = false;
  const result = await handle<LoggedIn>(deps, own, partitionOf(sessionId), async () => {
    const loaded = await deps.store.load(sessionId, sessionFold);
    const now = deps.now();
    const decision = decideRefresh(loaded.state, {
      presentedHash: deps.sha256(input.refreshToken),
      nextHash: deps.sha256(refreshToken),
      now: now.toISOString(),
      expiresAt: new Date(now.getTime() + deps.sessionLifetimeMs).toISOString(),
    });
    if (!decision.ok) return decision;
    reused = decision.events.some((event) => event.type === 'SessionEnded');
    const change = changeOf(
      own,
      now.toISOString(),
      { streamId: sessionId, ...loaded },
      sessionFold,
      decision.events,
    );
    return {
      ok: true,
      plan: { changes: [change], body: { id: sessionId, version: change.version, accountId, role } },
    };
  });
  // A replayed answer is the one of an earlier request: this one has committed nothing.
  if (reused && result.kind === 'done' && !result.replayed) {
    return {
      kind: 'refused',
      refusal: refuse(
        'refresh_token_reused',
        'This refresh token was used before, so the session was ended. Log in again.',
      ).refusal,
    };
  }
  return result.kind === 'done' && !result.replayed ? { ...result, refreshToken } : result;
}

/**
 * `<session>.<secret>.<seal>`. The seal tells a token that was used up from one that never was: ids of sessions
 * are no secret, and whoever knows one must not be able to end it by presenting garbage. Each token has one
 * possible successor, so that who lost it, or asked at the same instant as another tab, gets the same again.
 */
function refreshTokenOf(deps: Pick<CommandDeps, 'hmac'>, sessionId: SessionId, secret: string): string {
  const token = `${sessionId}.${secret}`;
  return `${token}.${deps.hmac('refresh token', token).slice(0, 32)}`;
}

/** The session that the token was made for. Undefined: not one of ours. */
function sessionOf(deps: Pick<SessionDeps, 'hmac' | 'sha256'>, refreshToken: string): SessionId | undefined {
  const [id = '', secret = ''] = refreshToken.split('.');
  const sessionId: SessionId | undefined = parseStreamId(id, 'ses');
  if (!sessionId) return undefined;
  // As hashes: how long comparing the texts takes would tell the seal, character by character.
  const ours = deps.sha256(refreshTokenOf(deps, sessionId, secret)) === deps.sha256(refreshToken);
  return ours ? sessionId : undefined;
}

/** Ends a session; its access token stops working at once. Ending it again changes nothing. Default: logged out. */
export async function endSession(
  deps: CommandDeps,
  context: CommandContext,
  input: { readonly sessionId: SessionId; readonly reason?: 'logged_out' | 'erased' },
): Promise<CommandResult<{ id: SessionId; version: number }>> {
  return handle(deps, context, partitionOf(input.sessionId), async () => {
    const loaded = await deps.store.load(input.sessionId, sessionFold);
    const decision = decideEnd(loaded.state, input.reason ?? 'logged_out');
    if (!decision.ok) return decision;
    const at = deps.now().toISOString();
    const change = changeOf(
      context,
      at,
      { streamId: input.sessionId, ...loaded },
      sessionFold,
      decision.events,
    );
    return { ok: true, plan: { changes: [change], body: { id: input.sessionId, version: change.version } } };
  });
}
