import { describe, expect, it } from 'vitest';
import {
  accountFold,
  claimEmail,
  emailFold,
  registerAccount,
  type Sealed,
} from '../../src/domain/accounts.ts';

const data = { email: 'sealed:v1:e' as Sealed, name: 'sealed:v1:n' as Sealed, role: 'user' } as const;

const meta = { at: '2026-01-01T00:00:00.000Z', correlation: 'c' };

describe('an email', () => {
  const claimed = emailFold.evolve(emailFold.initial, {
    type: 'EmailClaimed',
    data: { accountId: 'acc-00a' },
  });

  it('is claimed by who comes first', () => {
    expect(claimEmail(emailFold.initial, 'acc-00a')).toEqual({
      ok: true,
      events: [{ type: 'EmailClaimed', data: { accountId: 'acc-00a' } }],
    });
  });

  it('is refused to anybody else', () => {
    expect(claimEmail(claimed, 'acc-00b')).toMatchObject({ ok: false, refusal: { code: 'email_taken' } });
  });

  it('stays with its account when that claims it again', () => {
    expect(claimEmail(claimed, 'acc-00a')).toEqual({ ok: true, events: [] });
  });
});

describe('an account', () => {
  it('is registered once', () => {
    const event = { type: 'AccountRegistered', data } as const;
    expect(registerAccount(accountFold.initial, data)).toEqual({ ok: true, events: [event] });
    expect(registerAccount(accountFold.evolve(accountFold.initial, { ...event, ...meta }), data)).toEqual({
      ok: true,
      events: [],
    });
  });
});
