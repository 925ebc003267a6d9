import { describe, expect, test } from 'vitest';
import type { JobContext } from '../../src/consumers/define-job.ts';
import { emailJob } from '../../src/consumers/emails.ts';
import { normaliseError } from '../../src/consumers/normalise.ts';
import {
  type EmailPayload,
  type EmailResult,
  type EmailRules,
  parseSender,
} from '../../src/domain/emails.ts';
import { type JobId, streamId } from '../../src/domain/ids.ts';
import { startMailServer } from '../support/mail-server.ts';
import { quiet } from './support.ts';

const id: JobId = streamId('job', 0, 'e'.repeat(20));
const rules: EmailRules = {
  from: parseSender('Mill, the <noreply@example.com>') ?? parseSender('The Mill <noreply@example.com>'),
  senders: ['*@sales.example.com'],
  recipients: ['*@example.org'],
};
const email: EmailPayload = { to: ['ada@example.org'], subject: 'Hello', text: 'Dear Ada' };

/** Runs an `email.send` as a worker does. */
async function send(
  smtpUrl: string,
  payload: EmailPayload,
  settings: { rules?: EmailRules; signal?: AbortSignal } = {},
): Promise<EmailResult> {
  const job = emailJob({ rules: settings.rules ?? rules, smtpUrl });
  const context: JobContext<unknown> = {
    job: { id, type: 'email.send', payload, attempt: 1, enqueuedAt: '2026-11-21T10:00:00Z' },
    signal: settings.signal ?? new AbortController().signal,
    progress: () => {},
    logger: quiet,
    idempotencyKey: id,
  };
  const result = await job.perform(context);
  expect(job.resultError(result)).toBeUndefined();
  return result as EmailResult;
}

const header = (text: string, name: string) =>
  new RegExp(`^${name}: (.*(?:\r\n[ \t].*)*)`, 'im').exec(text)?.[1]?.replaceAll('\r\n', '');

describe('An email.send', () => {
  test('reaches who it is for, from the default sender, in text and HTML', async () => {
    const { url, mails } = await startMailServer();
    const to = ['ada@example.org', 'bob@example.org'];
    const result = await send(url, {
      ...email,
      to,
      subject: 'Grüße',
      html: '<p>Dear</p>',
      replyTo: 'me@x.example',
    });
    expect(result).toEqual({ messageId: `<${id}@example.com>`, accepted: 2, rejected: [] });
    expect(mails).toMatchObject([{ from: 'noreply@example.com', to }]);
    const text = mails[0]?.text ?? '';
    expect(header(text, 'From')).toBe('The Mill <noreply@example.com>');
    expect(header(text, 'To')).toBe('ada@example.org, bob@example.org');
    expect(header(text, 'Reply-To')).toBe('me@x.example');
    expect(header(text, 'Subject')).toMatch(/^=\?UTF-8\?/);
    expect(text).toContain('Dear Ada');
    expect(text).toContain('<p>Dear</p>');
  });

  test('has the same Message-ID in each attempt, so that a mailbox knows the second one', async () => {
    const { url, mails } = await startMailServer();
    await send(url, email);
    await send(url, { ...email, from: 'eve@sales.example.com' });
    await send(url, email);
    const ids = mails.map(({ text }) => header(text, 'Message-ID'));
    expect(ids).toEqual([`<${id}@example.com>`, `<${id}@sales.example.com>`, `<${id}@example.com>`]);
    expect(mails[1]?.from).toBe('eve@sales.example.com');
  });

  test.each([550, 553, 554])('is given up after a %i: the server would say it again', async (code) => {
    const { url } = await startMailServer({ refuse: { 'ada@example.org': code } });
    await expect(send(url, email)).rejects.toMatchObject({ name: 'NoRetryError' });
  });

  test.each([421, 450, 451, 452])('is to be tried again after a %i', async (code) => {
    const { url, refuse, mails } = await startMailServer({ refuse: { 'noreply@example.com': code } });
    await expect(send(url, email)).rejects.not.toMatchObject({ name: 'NoRetryError' });
    delete refuse['noreply@example.com'];
    await send(url, email);
    expect(mails).toHaveLength(1);
  });

  test('is to be tried again where no server answers', async () => {
    await expect(send('smtp://127.0.0.1:1', email)).rejects.not.toMatchObject({ name: 'NoRetryError' });
  });

  test.each([550, 450])('that is refused with a %i names nobody in its failure', async (code) => {
    const said =
      "5.1.1 <Ada.L@Example.org>: no mailbox 'ada.l' here, and ada.l@example.org is no alias: mailbox full";
    const { url } = await startMailServer({ refuse: { 'ada.l@example.org': [code, said] } });
    const failure = await send(url, { ...email, to: ['ada.l@example.org'] }).catch(normaliseError);
    expect(JSON.stringify(failure)).not.toMatch(/ada/i);
    expect(failure).toMatchObject({
      message: expect.stringContaining(`${code} 5.1.1 <<address>>: no mailbox`),
    });
    expect(failure).toMatchObject({ message: expect.stringContaining('mailbox full') });
  });

  test('says which recipients the server did not take; the others have it', async () => {
    const { url, mails } = await startMailServer({ refuse: { 'bob@example.org': 550 } });
    const to = ['ada@example.org', 'bob@example.org', 'eve@example.org'];
    expect(await send(url, { ...email, to })).toMatchObject({ accepted: 2, rejected: [1] });
    expect(mails).toMatchObject([{ to: ['ada@example.org', 'eve@example.org'] }]);
  });

  test('ends when it is cancelled', async () => {
    const { url } = await startMailServer({ silent: true });
    const signal = AbortSignal.timeout(200);
    await expect(send(url, email, { signal })).rejects.toMatchObject({ name: 'TimeoutError' });
  });

  test('is given up where it is not allowed any more when it runs', async () => {
    const { url, mails } = await startMailServer();
    const none = { ...rules, recipients: ['*@example.net'] };
    await expect(send(url, email, { rules: none })).rejects.toMatchObject({ name: 'NoRetryError' });
    expect(mails).toEqual([]);
  });

  test.each([
    { subject: 'Hello\r\nBcc: eve@example.org' },
    { subject: 'Hello\u2028Bcc: eve@example.org' },
    { to: ['ada@example.org\r\nBcc: eve@example.org'] },
    { to: ['"a" <ada@example.org>'] },
    { to: ['ada@example.org, eve@example.org'] },
    { to: [] },
    { from: 'a@sales.example.com\nBcc: eve@example.org' },
    { replyTo: 'a b@example.org' },
    { attachments: [{ path: '/etc/passwd' }] },
  ])('is refused as %j: no header can be smuggled in, no file read', async (part) => {
    const { url, mails } = await startMailServer();
    const payload = { ...email, ...part } as EmailPayload;
    await expect(send(url, payload)).rejects.toMatchObject({ name: 'NoRetryError' });
    expect(mails).toEqual([]);
  });
});
