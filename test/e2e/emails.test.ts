import { expect, test } from 'vitest';
import { waitUntil } from '../support/installation.ts';
import { startMailServer } from '../support/mail-server.ts';
import { sharedSetting } from '../support/setting.ts';

test('an email that a job sends arrives, and one to somebody else is refused at once', async () => {
  const { url, mails } = await startMailServer();
  const { installation } = await sharedSetting({
    SMTP_URL: url,
    EMAIL_FROM: 'Mill <noreply@example.com>',
    EMAIL_RECIPIENTS: '*@example.org',
  });
  await installation.startAll();
  const client = installation.client();
  const { token } = await client.register();
  const email = { to: ['ada@example.org'], subject: 'Hello', text: 'Dear Ada' };
  const enqueue = (payload: unknown) =>
    client.send('POST', '/v1/jobs', { token, body: { type: 'email.send', payload } });

  const refused = await enqueue({ ...email, to: ['ada@example.org', 'bob@example.net'] });
  expect(refused.status).toBe(400);
  expect(refused.body.errors).toMatchObject([{ pointer: '/payload/to/1' }]);

  const { body } = await enqueue(email);
  await waitUntil(() => mails.length === 1, 'the email', 30_000);
  expect(mails).toMatchObject([{ from: 'noreply@example.com', to: ['ada@example.org'] }]);
  const job = async () => (await client.send('GET', `/v1/jobs/${body.id}`, { token })).body;
  await waitUntil(async () => (await job()).status === 'succeeded', 'the job to have succeeded');
  expect((await job()).result).toEqual({ messageId: `<${body.id}@example.com>`, accepted: 1, rejected: [] });
});
