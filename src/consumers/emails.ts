import { createTransport } from 'nodemailer';
import {
  type EmailPayload,
  EmailResult,
  type EmailRules,
  emailObjection,
  emailsBy,
} from '../domain/emails.ts';
import type { JobId } from '../domain/ids.ts';
import { untilAborted } from './backoff.ts';
import { defineJob, NoRetryError } from './define-job.ts';

export type EmailDeps = {
  readonly rules: EmailRules;
  /** `smtp://user:password@host:587` or `smtps://…`; its query takes what nodemailer does, as `?requireTLS=true`. */
  readonly smtpUrl: string;
};

/** A server that says nothing for so long is given up. */
const PATIENCE_MS = 30_000;

/** Sends an email by SMTP, over a connection of its own. */
export function emailJob({ rules, smtpUrl }: EmailDeps) {
  return defineJob({
    ...emailsBy(rules),
    result: EmailResult,
    async run({ job, signal }) {
      // What is allowed may have changed since it was asked for.
      const objection = emailObjection(rules, job.payload);
      if (objection || !rules.from) throw new NoRetryError(objection?.detail ?? 'There is no sender.');
      const { address, name } = rules.from;
      const from =
        job.payload.from === undefined ? { address, name } : { address: job.payload.from, name: '' };
      return sendEmail(smtpUrl, job.id, from, job.payload, signal);
    },
  });
}

async function sendEmail(
  smtpUrl: string,
  jobId: JobId,
  from: { readonly name: string; readonly address: string },
  payload: EmailPayload,
  signal: AbortSignal,
): Promise<EmailResult> {
  const { to, subject, text, html, replyTo } = payload;
  const transport = createTransport({
    url: smtpUrl,
    connectionTimeout: PATIENCE_MS,
    greetingTimeout: PATIENCE_MS,
    socketTimeout: PATIENCE_MS,
    // Nothing in a payload may make the worker read a file or ask a URL.
    disableFileAccess: true,
    disableUrlAccess: true,
  });
  const sending = transport.sendMail({
    // Of the job, and not of the attempt: a mailbox that has it knows the second one for the same.
    messageId: `<${jobId}@${from.address.slice(from.address.lastIndexOf('@') + 1)}>`,
    from,
    to: to.map((address) => ({ name: '', address })),
    subject,
    text,
    ...(html === undefined ? {} : { html }),
    ...(replyTo === undefined ? {} : { replyTo: { name: '', address: replyTo } }),
  });
  try {
    const sent = await untilAborted(sending, signal);
    signal.throwIfAborted();
    if (!sent) throw new Error('the email was not sent');
    const rejected = new Set(sent.rejected.map((address) => String(address)));
    return {
      messageId: sent.messageId,
      accepted: to.filter((address) => !rejected.has(address)).length,
      rejected: to.flatMap((address, index) => (rejected.has(address) ? [index] : [])),
    };
  } catch (error) {
    throw signal.aborted ? signal.reason : worthAnother(error, to);
  }
}

/** A server's 5xx is its last word on this email; one on our credentials is for an operator to mend meanwhile. */
function worthAnother(error: unknown, to: readonly string[]): unknown {
  if (!(error instanceof Error)) return error;
  const message = withoutAddresses(error.message, to);
  const code = 'code' in error ? error.code : undefined;
  // Neither the cause nor its stack, which begins with what the server said.
  if ('permanent' in error && error.permanent === true && code !== 'EAUTH') return new NoRetryError(message);
  return Object.assign(new Error(message), code === undefined ? {} : { code });
}

const ADDRESS = /[^\s<>()[\]",;:]+@[^\s<>()[\]",;:]+/g;

/**
 * Servers name in their refusals whom they do not know, and log-ins. A failure is kept, listed and logged, where the
 * addresses that an email goes to are not to be.
 */
function withoutAddresses(text: string, to: readonly string[]): string {
  const names = new Set(to.map((address) => address.slice(0, address.lastIndexOf('@')).toLowerCase()));
  return text
    .replace(ADDRESS, '<address>')
    .replace(/[\w.!#$%&'*+/=?^`{|}~-]+/g, (word) => (names.has(bare(word).toLowerCase()) ? '<name>' : word));
}

/** Without what a sentence or a quotation puts around it. */
function bare(word: string): string {
  return word.replace(/^['`]+|['`.!?]+$/g, '');
}
