import { SMTPServer } from 'smtp-server';
import { onTestFinished } from 'vitest';

export type Mail = { readonly from: string; readonly to: readonly string[]; readonly text: string };

/** What a server says instead of taking an address: an SMTP code, or that and what it says besides. */
export type Refusals = Readonly<Record<string, number | readonly [code: number, text: string]>>;

/** A real SMTP server on a port of its own; gone with the test. `refuse` may change while it runs. */
export async function startMailServer(settings: { refuse?: Refusals; silent?: boolean } = {}) {
  const mails: Mail[] = [];
  const refuse: Record<string, Refusals[string]> = { ...settings.refuse };
  const server = new SMTPServer({
    authOptional: true,
    closeTimeout: 100,
    disabledCommands: ['STARTTLS'],
    hideSTARTTLS: true,
    onMailFrom({ address }, _session, callback) {
      callback(refusal(refuse[address]));
    },
    onRcptTo({ address }, _session, callback) {
      callback(refusal(refuse[address]));
    },
    onData(stream, session, callback) {
      let text = '';
      stream.setEncoding('utf8');
      stream.on('data', (chunk) => (text += chunk));
      stream.on('end', () => {
        if (settings.silent) return;
        const { mailFrom, rcptTo } = session.envelope;
        const from = mailFrom ? mailFrom.address : '';
        mails.push({ from, to: rcptTo.map(({ address }) => address), text });
        callback(null);
      });
    },
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', () => resolve()));
  onTestFinished(() => new Promise<void>((resolve) => server.close(() => resolve())));
  const address = server.server.address();
  const port = typeof address === 'object' ? address?.port : 0;
  return { url: `smtp://127.0.0.1:${port}`, mails, refuse };
}

function refusal(said: Refusals[string] | undefined): Error | null {
  if (said === undefined) return null;
  const [responseCode, text] = typeof said === 'number' ? [said, 'not this one'] : said;
  return Object.assign(new Error(text), { responseCode });
}
