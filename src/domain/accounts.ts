import { type Static, Type } from 'typebox';
import { accept, type Decision, type Fold, refuse } from './decision.ts';
import type { FoldMeta } from './event.ts';

/**
 * Text that only its person's key opens (see `docs/concepts.md`, People). Personal data enters an event in
 * this form and no other.
 */
export const Sealed = Type.Unsafe<Sealed>(Type.String({ pattern: '^sealed:v1:', maxLength: 2048 }));
export type Sealed = string & { readonly sealed: true };

export const Role = Type.Enum(['user', 'operator']);
export type Role = Static<typeof Role>;

export const AccountRegistered = Type.Object({ email: Sealed, name: Sealed, role: Role });

/**
 * On the stream named after the email's HMAC, in the same commit as the account's first event: an email
 * belongs to one account because that stream can only be begun once.
 */
export const EmailClaimed = Type.Object({ accountId: Type.String({ maxLength: 80 }) });

/** The email belongs to nobody any more: who registers with it next has another account. */
export const EmailReleased = Type.Object({ accountId: Type.String({ maxLength: 80 }) });

/** From here on the account is nobody's: it can't be logged into, and what was sealed for it is given up. */
export const AccountErased = Type.Object({
  /** The job that takes away what there is besides the events. */
  jobId: Type.String({ maxLength: 80 }),
});

const Count = Type.Integer({ minimum: 0 });

/** What the person had, all of which was ended or taken away: besides what their key alone could open. */
export const Erased = Type.Object({ sessions: Count, jobs: Count, schedules: Count, exports: Count });
export type Erased = Static<typeof Erased>;

/** Nothing is left that was known of the person. */
export const AccountErasureCompleted = Erased;

export type AccountEvent =
  | { type: 'AccountRegistered'; data: Static<typeof AccountRegistered> }
  | { type: 'AccountErased'; data: Static<typeof AccountErased> }
  | { type: 'AccountErasureCompleted'; data: Erased };
export type EmailEvent =
  | { type: 'EmailClaimed'; data: Static<typeof EmailClaimed> }
  | { type: 'EmailReleased'; data: Static<typeof EmailReleased> };

export type Account =
  | { phase: 'none' }
  | { phase: 'active'; role: Role }
  /** Times are RFC 3339 UTC. */
  | { phase: 'erasing'; jobId: string; erasedAt: string }
  | { phase: 'erased'; jobId: string; erasedAt: string; completedAt: string; erased: Erased };
export type Email = { phase: 'free' } | { phase: 'claimed'; accountId: string };

export const accountFold: Fold<Account, AccountEvent & FoldMeta> = {
  fold: 2,
  initial: { phase: 'none' },
  evolve(state, event) {
    switch (event.type) {
      case 'AccountRegistered':
        return { phase: 'active', role: event.data.role };
      case 'AccountErased':
        return { phase: 'erasing', jobId: event.data.jobId, erasedAt: event.at };
      case 'AccountErasureCompleted':
        return state.phase === 'erasing'
          ? { ...state, phase: 'erased', completedAt: event.at, erased: event.data }
          : state;
    }
  },
};

export const emailFold: Fold<Email, EmailEvent> = {
  fold: 2,
  initial: { phase: 'free' },
  evolve: (_state, event) =>
    event.type === 'EmailClaimed' ? { phase: 'claimed', accountId: event.data.accountId } : { phase: 'free' },
};

/** Nothing of it may be used, or made, any more. */
export function isErased(account: Account): boolean {
  return account.phase === 'erasing' || account.phase === 'erased';
}

export function claimEmail(email: Email, accountId: string): Decision<EmailEvent> {
  if (email.phase === 'claimed' && email.accountId === accountId) return accept();
  if (email.phase === 'claimed')
    return refuse('email_taken', 'An account with this email exists. Log in, or use another email.');
  return accept({ type: 'EmailClaimed', data: { accountId } });
}

export function registerAccount(
  account: Account,
  data: Static<typeof AccountRegistered>,
): Decision<AccountEvent> {
  if (isErased(account)) return wasErased();
  if (account.phase !== 'none') return accept();
  return accept({ type: 'AccountRegistered', data });
}

export const wasErased = () => refuse('account_erased', 'This account was erased. Register anew.');

/** Gives an email up. That of another account is left alone. */
export function releaseEmail(email: Email, accountId: string): Decision<EmailEvent> {
  if (email.phase === 'free' || email.accountId !== accountId) return accept();
  return accept({ type: 'EmailReleased', data: { accountId } });
}

/** Doing so again changes nothing. @param jobId of the job that takes away what there is besides the events */
export function eraseAccount(account: Account, jobId: string): Decision<AccountEvent> {
  if (account.phase === 'none') return refuse('not_found', 'There is no such account.');
  if (account.phase !== 'active') return accept();
  return accept({ type: 'AccountErased', data: { jobId } });
}

export function completeErasure(account: Account, erased: Erased): Decision<AccountEvent> {
  if (account.phase === 'erased') return accept();
  if (account.phase !== 'erasing') return refuse('not_found', 'Nobody is being erased here.');
  return accept({ type: 'AccountErasureCompleted', data: erased });
}
