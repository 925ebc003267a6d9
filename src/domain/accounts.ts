import { type Static, Type } from 'typebox';
import { accept, type Decision, type Fold, refuse } from './decision.ts';

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

export type AccountEvent = { type: 'AccountRegistered'; data: Static<typeof AccountRegistered> };
export type EmailEvent = { type: 'EmailClaimed'; data: Static<typeof EmailClaimed> };

export type Account = { phase: 'none' } | { phase: 'active'; role: Role };
export type Email = { phase: 'free' } | { phase: 'claimed'; accountId: string };

export const accountFold: Fold<Account, AccountEvent> = {
  fold: 1,
  initial: { phase: 'none' },
  evolve: (_state, event) => ({ phase: 'active', role: event.data.role }),
};

export const emailFold: Fold<Email, EmailEvent> = {
  fold: 1,
  initial: { phase: 'free' },
  evolve: (_state, event) => ({ phase: 'claimed', accountId: event.data.accountId }),
};

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
  if (account.phase !== 'none') return accept();
  return accept({ type: 'AccountRegistered', data });
}
