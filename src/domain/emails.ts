import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import type { JobType, Objection } from './job-types.ts';

/** Name of the job type that sends an email. Stored: an identifier for life. */
export const EMAIL_SEND_JOB = 'email.send';

const LOCAL = "[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}";
const LABEL = '[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?';
const ADDRESS = `${LOCAL}@${LABEL}(?:\\.${LABEL})*`;
/** A bare address, as HTML's input field has it: nothing that a header could be broken with. */
const Address = Type.String({ pattern: `^${ADDRESS}$`, maxLength: 254 });
/** One line. */
const Subject = Type.String({
  minLength: 1,
  maxLength: 500,
  pattern: '^[^\\u0000-\\u001f\\u007f-\\u009f\\u2028\\u2029]+$',
});

export const EmailPayload = Type.Object(
  {
    to: Type.Array(Address, { minItems: 1, maxItems: 50 }),
    subject: Subject,
    text: Type.String({ maxLength: 100_000 }),
    html: Type.Optional(Type.String({ maxLength: 200_000 })),
    replyTo: Type.Optional(Address),
    from: Type.Optional(Address),
  },
  { additionalProperties: false },
);
export type EmailPayload = Static<typeof EmailPayload>;

/** Without addresses: results are read by more than events are. */
export const EmailResult = Type.Object({
  messageId: Type.String(),
  accepted: Type.Integer({ minimum: 1 }),
  /** Places in `to` of those that the server did not take, which are not tried again: the others have the email. */
  rejected: Type.Array(Type.Integer({ minimum: 0 })),
});
export type EmailResult = Static<typeof EmailResult>;

const settings = {
  type: EMAIL_SEND_JOB,
  enqueuedBy: 'accounts',
  queue: 'email',
  maxAttempts: 10,
  timeoutSeconds: 120,
  retry: { baseMs: 5_000, capMs: 3_600_000 },
  payload: EmailPayload,
} as const satisfies JobType;

export type Sender = { readonly name: string; readonly address: string };

/** What an installation lets its jobs send. */
export type EmailRules = {
  /** Who an email is from that doesn't say so. Undefined: no emails are sent here. */
  readonly from: Sender | undefined;
  /** Who else it may be from, and whom it may go to: addresses, `*@example.org`, `*`. */
  readonly senders: readonly string[];
  readonly recipients: readonly string[];
};

const MAILBOX = new RegExp(`^(?:([^<>",;:\\\\\\u0000-\\u001f\\u007f]*?)\\s*<(${ADDRESS})>|(${ADDRESS}))$`);
const PATTERN = new RegExp(`^(?:\\*|\\*@${LABEL}(?:\\.${LABEL})*|${ADDRESS})$`);

/** `noreply@example.org` or `Name <noreply@example.org>`; undefined: neither. */
export function parseSender(text: string): Sender | undefined {
  const [, name = '', named, bare] = MAILBOX.exec(text.trim()) ?? [];
  const address = named ?? bare;
  return address === undefined ? undefined : { name: name.trim(), address };
}

/** `ada@example.org`, `*@example.org` or `*`. */
export function isAddressPattern(text: string): boolean {
  return PATTERN.test(text);
}

const payloads = Compile(EmailPayload);

/** `email.send` in an installation with these rules. */
export function emailsBy(rules: EmailRules): JobType & { readonly payload: typeof EmailPayload } {
  return {
    ...settings,
    permit: (payload) => (payloads.Check(payload) ? emailObjection(rules, payload) : undefined),
  };
}

/** What keeps an email from being sent from here; undefined: nothing. */
export function emailObjection(rules: EmailRules, payload: EmailPayload): Objection | undefined {
  if (!rules.from) return { kind: 'forbidden', detail: 'This installation sends no emails.' };
  if (rules.recipients.length === 0) {
    return { kind: 'forbidden', detail: 'This installation allows no recipients of emails.' };
  }
  const { from, to } = payload;
  if (from !== undefined && !matches([rules.from.address, ...rules.senders], from)) {
    return { kind: 'fault', path: '/from', detail: 'is not among the senders that this installation allows' };
  }
  const outside = to.findIndex((address) => !matches(rules.recipients, address));
  if (outside < 0) return undefined;
  const detail = 'is not among the recipients that this installation allows';
  return { kind: 'fault', path: `/to/${outside}`, detail };
}

function matches(patterns: readonly string[], address: string): boolean {
  const text = address.toLowerCase();
  return patterns.some((each) => {
    const pattern = each.toLowerCase();
    return (
      pattern === '*' || pattern === text || (pattern.startsWith('*@') && text.endsWith(pattern.slice(1)))
    );
  });
}
