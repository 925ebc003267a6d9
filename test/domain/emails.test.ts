import { describe, expect, test } from 'vitest';
import { type EmailRules, emailObjection, isAddressPattern, parseSender } from '../../src/domain/emails.ts';

const from = parseSender('noreply@example.com');
const rules: EmailRules = { from, senders: [], recipients: ['*@example.org', 'ada@example.net'] };
const email = { to: ['ada@example.org'], subject: 'a', text: '' };

describe('An installation', () => {
  test('sends emails to the recipients that it allows', () => {
    expect(emailObjection(rules, email)).toBeUndefined();
    expect(emailObjection(rules, { ...email, to: ['ADA@EXAMPLE.NET', 'bob@Example.org'] })).toBeUndefined();
    expect(emailObjection({ ...rules, recipients: ['*'] }, { ...email, to: ['a@b.c'] })).toBeUndefined();
  });

  test.each([
    [{ to: ['ada@example.org', 'bob@example.net'] }, '/to/1'],
    [{ to: ['ada@sub.example.org'] }, '/to/0'],
    [{ to: ['ada@notexample.org'] }, '/to/0'],
    [{ from: 'ada@example.org' }, '/from'],
  ])('refuses %j, and says what of it', (part, path) => {
    expect(emailObjection(rules, { ...email, ...part })).toMatchObject({ kind: 'fault', path });
  });

  test('sends none without a server, or without recipients to allow', () => {
    expect(emailObjection({ ...rules, from: undefined }, email)).toMatchObject({ kind: 'forbidden' });
    expect(emailObjection({ ...rules, recipients: [] }, email)).toMatchObject({ kind: 'forbidden' });
  });
});

test.each([
  ['noreply@example.com', { name: '', address: 'noreply@example.com' }],
  ['Millrace <noreply@example.com>', { name: 'Millrace', address: 'noreply@example.com' }],
  ['<noreply@example.com>', { name: '', address: 'noreply@example.com' }],
  ['noreply', undefined],
  ['a <b> <noreply@example.com>', undefined],
  ['a\nb <noreply@example.com>', undefined],
])('%j is the sender %j', (text, sender) => expect(parseSender(text)).toEqual(sender));

test('addresses, domains and everybody are patterns, and nothing else', () => {
  expect(['a@b.c', '*@b.c', '*'].map(isAddressPattern)).toEqual([true, true, true]);
  expect(['b.c', '*b.c', 'a@*', '@b.c', 'a@b.c,'].map(isAddressPattern)).not.toContain(true);
});
