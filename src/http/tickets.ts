import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { type Hmac, readSigned, signText } from '../access/signing.ts';
import type { Caller } from '../access/tokens.ts';
import { Role } from '../domain/accounts.ts';
import { type AccountId, parseStreamId, type SessionId } from '../domain/ids.ts';
import { Problem } from './problems.ts';

/** Long enough to open a connection with, too short to be of use in a log. */
export const TICKET_SECONDS = 60;

const Ticket = Type.Object({
  path: Type.String(),
  accountId: Type.String(),
  sessionId: Type.String(),
  role: Role,
  expiresAt: Type.Number(),
});
const tickets = Compile(Ticket);

/** Lets its holder open one path for a minute, as the caller, where no Authorization header can be sent. */
export function issueTicket(hmac: Hmac, caller: Caller, path: string, now: number): string {
  const ticket: Static<typeof Ticket> = {
    path,
    accountId: caller.accountId,
    sessionId: caller.sessionId,
    role: caller.role,
    expiresAt: now + TICKET_SECONDS * 1000,
  };
  return signText(hmac, 'stream ticket', JSON.stringify(ticket));
}

/** Who holds the ticket. Throws a `Problem` unless it is ours, for this path, and of the last minute. */
export function readTicket(hmac: Hmac, signed: string, url: string, now: number): Caller {
  const text = readSigned(hmac, 'stream ticket', signed);
  const ticket: unknown = text === undefined ? undefined : JSON.parse(text);
  const [path] = url.split('?', 1);
  if (!tickets.Check(ticket) || ticket.path !== path) {
    throw new Problem('invalid_token', 'The ticket is not valid for this path.');
  }
  if (ticket.expiresAt <= now) throw new Problem('invalid_token', 'The ticket has expired.');
  const accountId: AccountId | undefined = parseStreamId(ticket.accountId, 'acc');
  const sessionId: SessionId | undefined = parseStreamId(ticket.sessionId, 'ses');
  if (!accountId || !sessionId) throw new Problem('invalid_token', 'The ticket is not valid.');
  return { accountId, sessionId, role: ticket.role };
}
