/** What stands for a value that was taken out. */
export const REDACTED = '[redacted]';

/** Deeper than this a log object is cut off: it is data, not a message. */
const MAX_DEPTH = 8;

/**
 * Keys whose values never reach a log, compared without case, `-` and `_`: `apiKey`, `x-api-key` and `API_KEY`
 * are one. A key also counts where it ends with one of SECRET_ENDINGS (`currentPassword`, `refreshToken`).
 * Numbers behind such a key stay if it is a token: those are fencing tokens, and an operator needs them.
 */
const SECRET_KEYS = new Set([
  ...[
    'authorization',
    'proxyauthorization',
    'cookie',
    'setcookie',
    'cookies',
    'ticket',
    'signature',
    'credentials',
  ],
  ...['pepper', 'pass', 'pwd', 'jwt', 'bearer', 'passphrase', 'otp', 'body', 'rawbody'],
]);
const SECRET_ENDINGS = /(?:password|passwordhash|secret|token|apikey|privatekey|masterkey|email|emails)$/;

/** Keys as they stand in a line that is JSON already: what a child logger's bindings or a toJSON brought in. */
const SECRET_PAIR =
  /"((?:[\w-]*(?:password|passwordhash|secret|token|api[-_]?key|private[-_]?key|master[-_]?key|email))|(?:proxy-)?authorization|(?:set-)?cookie|ticket|signature|pepper|jwt)":"(?!\[redacted\])(?:[^"\\]|\\.)*"/gi;

/**
 * Credentials by their looks: in a URL, behind a scheme, as one of our API keys, as a JWT, in a query, a mail
 * address. Each takes linear time on any text: what a stranger sends may stand in a line.
 */
const CREDENTIAL_IN_URL = /(:\/\/[^/\s:@"\\]*:)[^/\s@"\\]+@/g;
const AUTH_SCHEME = /\b(Bearer|Basic) [\w.~+/-]{8,}=*/gi;
const API_KEY = /\bmill_[a-z0-9]+_[\w-]{8,}/gi;
const JWT = /(?<![\w.-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]*/g;
const IN_QUERY = /([?&](?:ticket|token|sig|signature|code|state|password|email)=)[^&\s"\\]+/gi;
const EMAIL = /[\w.+-]{1,64}@(?:[\w-]{1,63}\.){1,8}[a-z]{2,24}/gi;
/** Nearly every line has none of the above: one pass tells. */
const SUSPECT =
  /@|bearer |basic |mill_|eyJ|[?&]\w+=|password|secret|token|key"|authorization|cookie|ticket|signature|pepper|jwt/i;

/**
 * A log object with its secrets replaced, at any depth, in arrays too. What holds none is returned as it is,
 * uncopied; the given object is never changed.
 */
export function redacted(fields: Record<string, unknown>): Record<string, unknown> {
  return redactObject(fields, 0);
}

/** A text (a whole log line, a message) without what looks like a credential or a mail address. */
export function scrubbed(text: string): string {
  if (!SUSPECT.test(text)) return text;
  return text
    .replace(SECRET_PAIR, `"$1":"${REDACTED}"`)
    .replace(CREDENTIAL_IN_URL, `$1${REDACTED}@`)
    .replace(AUTH_SCHEME, `$1 ${REDACTED}`)
    .replace(API_KEY, REDACTED)
    .replace(JWT, REDACTED)
    .replace(IN_QUERY, `$1${REDACTED}`)
    .replace(EMAIL, REDACTED);
}

/**
 * An error as `{type, message, stack, code?, cause?, errors?}` and nothing else: ioredis hangs the command with
 * its arguments on an error, pg the values of the row that offended.
 */
export function serializeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return typeof error === 'object' ? redacted({ error }) : error;
  const code = 'code' in error && typeof error.code === 'string' ? { code: error.code } : {};
  const deeper = depth < 4;
  return {
    type: error.name,
    message: error.message,
    stack: error.stack,
    ...code,
    ...(deeper && error.cause !== undefined ? { cause: serializeError(error.cause, depth + 1) } : {}),
    ...(deeper && error instanceof AggregateError
      ? { errors: error.errors.slice(0, 5).map((each) => serializeError(each, depth + 1)) }
      : {}),
  };
}

function isSecret(key: string, value: unknown): boolean {
  if (value === undefined || value === null) return false;
  const plain = key.toLowerCase().replace(/[-_]/g, '');
  if (typeof value === 'number' && plain.endsWith('token')) return false;
  return SECRET_KEYS.has(plain) || SECRET_ENDINGS.test(plain);
}

function redactObject(fields: Record<string, unknown>, depth: number): Record<string, unknown> {
  let copy: Record<string, unknown> | undefined;
  for (const [key, value] of Object.entries(fields)) {
    const safe = isSecret(key, value) ? REDACTED : redactValue(value, depth + 1);
    if (safe === value) continue;
    copy ??= { ...fields };
    copy[key] = safe;
  }
  return copy ?? fields;
}

function redactValue(value: unknown, depth: number): unknown {
  if (typeof value !== 'object' || value === null) return value;
  if (value instanceof Error) return depth === 1 ? value : serializeError(value);
  if (depth > MAX_DEPTH) return '[too deep]';
  if (Array.isArray(value)) return redactArray(value, depth);
  // Requests, replies, Maps, Dates, Buffers: left to their serializer or toJSON, and to `scrubbed` after it.
  const prototype = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null) return value;
  return redactObject(value as Record<string, unknown>, depth);
}

function redactArray(values: unknown[], depth: number): unknown[] {
  const safe = values.map((value) => redactValue(value, depth + 1));
  return safe.some((value, index) => value !== values[index]) ? safe : values;
}
