import { isIP } from 'node:net';
import type { TSchema } from 'typebox';
import { type Destination, parseDestination } from './domain/destinations.ts';
import { isAddressPattern, parseSender, type Sender } from './domain/emails.ts';
import { JobQueue } from './domain/jobs/events.ts';

/** The items of a comma-separated variable. */
export function listOf(text: string): string[] {
  return text
    .split(',')
    .map((item) => item.trim())
    .filter(Boolean);
}

/** URLs of databases; one that is wrong is named by its place, as it may hold a password. */
export function databaseUrlsOf(name: string, text: string, problems: string[]): string[] {
  return listOf(text).filter((url, index) => {
    const fine = /^postgres(ql)?:\/\//.test(url) && URL.canParse(url) && new URL(url).hostname !== '';
    if (!fine)
      problems.push(`${name}: the ${index + 1}. is no URL such as postgres://user:password@host:5432/name`);
    return fine;
  });
}

export function destinationsOf(name: string, text: string, problems: string[]): Destination[] {
  return listOf(text).flatMap((item) => {
    const destination = parseDestination(item);
    if (destination) return [destination];
    problems.push(`${name}: "${item}" is no destination such as api.example.com, *.example.org or *`);
    return [];
  });
}

export function networksOf(name: string, text: string, problems: string[]): string[] {
  return listOf(text).filter((item) => {
    const [address = '', bits = '', ...rest] = item.split('/');
    const family = isIP(address);
    const known = rest.length === 0 && /^\d{1,3}$/.test(bits) && Number(bits) <= (family === 6 ? 128 : 32);
    if (!family || !known) problems.push(`${name}: "${item}" is no network such as 10.1.0.0/16`);
    return family !== 0 && known;
  });
}

/** How many jobs of a queue run at once, by queue. */
export function queueLimitsOf(name: string, text: string, problems: string[]): Map<string, number> {
  const limits = new Map<string, number>();
  for (const item of listOf(text)) {
    const [, queue = '', most = ''] = /^([a-z]+):(\d{1,4})$/.exec(item) ?? [];
    if (JobQueue.enum.some((known) => known === queue) && Number(most) > 0 && Number(most) <= 1000) {
      limits.set(queue, Number(most));
    } else {
      problems.push(`${name}: "${item}" is no limit of a queue such as ${JobQueue.enum[0]}:2 (1 to 1000)`);
    }
  }
  return limits;
}

export function senderOf(name: string, text: string, problems: string[]): Sender | undefined {
  if (text === '') return undefined;
  const sender = parseSender(text);
  if (!sender) problems.push(`${name}: "${text}" is no sender such as Millrace <noreply@example.com>`);
  return sender;
}

export function addressesOf(name: string, text: string, problems: string[]): string[] {
  return listOf(text).filter((item) => {
    if (isAddressPattern(item)) return true;
    problems.push(`${name}: "${item}" is no address such as ada@example.com, *@example.com or *`);
    return false;
  });
}

export function tokenKeysOf(
  value: unknown,
  problems: string[],
): { readonly kid: string; readonly der: Buffer }[] {
  if (typeof value !== 'string') return [];
  return value.split(',').map((part) => {
    const [kid = '', der = ''] = part.trim().split(':');
    const bytes = Buffer.from(der, 'base64');
    if (!/^[A-Za-z0-9_-]{1,64}$/.test(kid) || bytes.length < 40) {
      problems.push(
        'TOKEN_KEYS must be kid:base64 pairs; make a key with: openssl genpkey -algorithm ed25519 -outform DER | base64 -w0',
      );
    }
    return { kid, der: bytes };
  });
}

/** A variable's text as its schema's type has it; left as it is where it can't be. */
export function convert(text: string, schema: TSchema): unknown {
  const type = 'type' in schema ? schema.type : undefined;
  if (type === 'integer' || type === 'number') return text.trim() === '' ? text : Number(text);
  if (type === 'boolean')
    return text === 'true' || text === '1' ? true : text === 'false' || text === '0' ? false : text;
  return text;
}

/** Values of secrets are never shown. */
export function shown(name: string, text: string | undefined): string {
  return /KEY|URL/.test(name) ? '…' : (text ?? '');
}

/** What a variable must be, in words. */
export function expected(schema: TSchema & { description?: string }): string {
  const rule = schema as {
    enum?: unknown[];
    minimum?: number;
    maximum?: number;
    pattern?: string;
    type?: string;
  };
  if (rule.enum) return `one of ${rule.enum.join(', ')}`;
  if (rule.pattern) return `of the form ${rule.pattern} (${schema.description})`;
  if (rule.minimum !== undefined)
    return `${rule.type === 'integer' ? 'a whole number' : 'a number'} from ${rule.minimum} to ${rule.maximum}`;
  return `a ${rule.type} (${schema.description})`;
}
