import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { type Destination, destinationFault, MAX_URL_LENGTH } from './destinations.ts';
import type { JobType } from './job-types.ts';

/** Name of the job type that sends a request. Stored: an identifier for life. */
export const HTTP_REQUEST_JOB = 'http.request';

const MAX_HEADERS = 30;
/** Tokens of RFC 9110. */
const HeaderName = Type.String({ pattern: "^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}$" });
/** No control characters: a line break would begin another header. */
const HeaderValue = Type.String({ pattern: '^[\\t\\x20-\\x7e\\x80-\\xff]*$', maxLength: 4096 });

export const HttpRequestPayload = Type.Object(
  {
    url: Type.String({ minLength: 1, maxLength: MAX_URL_LENGTH }),
    method: Type.Optional(Type.Enum(['POST', 'PUT', 'PATCH', 'GET', 'DELETE'])),
    headers: Type.Optional(
      Type.Record(HeaderName, HeaderValue, { maxProperties: MAX_HEADERS, additionalProperties: false }),
    ),
    /** A text is sent as it is, anything else as JSON. */
    body: Type.Optional(Type.Unknown()),
    /** Of one attempt. */
    timeoutSeconds: Type.Optional(Type.Integer({ minimum: 1, maximum: 60 })),
  },
  { additionalProperties: false },
);
export type HttpRequestPayload = Static<typeof HttpRequestPayload>;

/** Of the receiver's answer, what is worth keeping. */
export const HttpRequestResult = Type.Object({
  status: Type.Integer({ minimum: 100, maximum: 599 }),
  headers: Type.Record(Type.String(), Type.String()),
  body: Type.String(),
  /** The receiver said more than is kept. */
  bodyTruncated: Type.Boolean(),
  durationMs: Type.Integer({ minimum: 0 }),
});
export type HttpRequestResult = Static<typeof HttpRequestResult>;

/** Settings of `http.request`. They persevere for hours: receivers are deployed, too, and have bad nights. */
export const httpRequestJobType = {
  type: HTTP_REQUEST_JOB,
  enqueuedBy: 'accounts',
  queue: 'webhooks',
  maxAttempts: 12,
  timeoutSeconds: 90,
  retry: { baseMs: 2_000, capMs: 3_600_000 },
  payload: HttpRequestPayload,
} as const satisfies JobType;

const OURS = new Set(['webhook-id', 'webhook-timestamp', 'webhook-signature', 'host', 'content-length']);
/** About the connection and not the request (RFC 9110, 7.6.1): where they pass, requests can be smuggled. */
const HOP_BY_HOP = new Set(
  ['connection', 'keep-alive', 'proxy-authenticate', 'proxy-authorization', 'proxy-connection'].concat([
    'te',
    'trailer',
    'transfer-encoding',
    'upgrade',
    'expect',
    'accept-encoding',
  ]),
);

const payloads = Compile(HttpRequestPayload);

/** `http.request` in an installation that allows these destinations. */
export function httpRequestsTo(
  allowed: readonly Destination[],
): JobType & { readonly payload: typeof HttpRequestPayload } {
  return {
    ...httpRequestJobType,
    permit(payload) {
      if (!payloads.Check(payload)) return undefined;
      if (allowed.length === 0) {
        return { kind: 'forbidden', detail: 'This installation allows no destinations for requests.' };
      }
      const fault = httpRequestFault(allowed, payload);
      return fault && { kind: 'fault', ...fault };
    },
  };
}

/** What keeps a request from being sent from here, and where in the payload it stands; undefined: nothing. */
export function httpRequestFault(
  allowed: readonly Destination[],
  { url, method = 'POST', headers = {}, body }: HttpRequestPayload,
): { readonly path: string; readonly detail: string } | undefined {
  const wrong = destinationFault(allowed, url);
  if (wrong) return { path: '/url', detail: wrong };
  const name = Object.keys(headers).find((each) => {
    const known = each.toLowerCase();
    return OURS.has(known) || HOP_BY_HOP.has(known);
  });
  if (name !== undefined)
    return { path: `/headers/${escaped(name)}`, detail: 'is not for the sender to set' };
  if (method === 'GET' && body !== undefined) return { path: '/body', detail: 'goes not with GET' };
  return undefined;
}

/** As JSON pointers have it. */
function escaped(name: string): string {
  return name.replaceAll('~', '~0');
}
