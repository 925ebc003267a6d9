import { problemTypes } from './problem-types.ts';
import { ProblemSchema } from './schemas.ts';

/** What is the same for all routes: said once, referred to by each. */
export const document = {
  openapi: '3.1.1',
  info: {
    title: 'Millrace',
    version: '1',
    description:
      'A backend in which every change is an event. Commands answer with a `Position`; a query that brings it as `Consistent-With` includes what the command did.',
    license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
  },
  servers: [{ url: '/', description: 'Where this document came from' }],
  tags: [
    { name: 'Accounts', description: 'People' },
    { name: 'Sessions', description: 'Logging in, tokens and tickets' },
    { name: 'Jobs', description: 'Work in the background' },
    { name: 'Exports', description: 'Files of what the system knows' },
    { name: 'Operation', description: 'Health, contracts and keys' },
  ],
};

const text = (maxLength: number) => ({ type: 'string', maxLength }) as const;

const parameter = (name: string, description: string, schema: object, example?: string) => ({
  name,
  in: 'header' as const,
  required: false,
  description,
  schema,
  ...(example === undefined ? {} : { example }),
});

const header = (description: string, schema: object = { type: 'string' }) => ({ description, schema });

const shared = (name: string) => ({ $ref: `#/components/headers/${name}` });

const DURABILITY = { type: 'string', enum: ['memory', 'replicated', 'ledger'] } as const;

/** What a query may come to that brought `Prefer`. */
const AFTER_PREFERENCES = [403, 404, 409, 410, 503];

export const components = {
  securitySchemes: {
    accessToken: {
      type: 'http' as const,
      scheme: 'bearer',
      bearerFormat: 'JWT (EdDSA; keys at /.well-known/jwks.json)',
    },
    streamTicket: { type: 'apiKey' as const, in: 'query' as const, name: 'ticket' },
  },
  schemas: { Problem: ProblemSchema },
  parameters: {
    IdempotencyKey: parameter(
      'Idempotency-Key',
      'Makes the request safe to repeat: the same key and body get the first answer again. It belongs to the caller and the path.',
      text(257),
      '"8e03978e-40d5-43e8-bc93-6894a57f9324"',
    ),
    Durability: parameter(
      'Durability',
      'What to wait for. Default: as the installation says.',
      DURABILITY,
      'ledger',
    ),
    ConsistentWith: parameter(
      'Consistent-With',
      'Positions that the answer must include, comma separated: as `Position` of commands, and of queries, if nothing that they showed may go back.',
      { type: 'string' },
    ),
    Prefer: parameter(
      'Prefer',
      '`wait=N`: wait for them at most N seconds (default 5, at most 30).',
      text(100),
      'wait=10',
    ),
    IfNoneMatch: parameter('If-None-Match', 'The ETag that you have: 304 if it is still so.', {
      type: 'string',
    }),
    LastEventId: parameter('Last-Event-ID', 'Resume after this event.', text(40)),
  },
  headers: {
    Position: header(
      'Names the last event that the command wrote; of a query, how far its answer is: told to who brought `Consistent-With`, where another server could answer the next one. Opaque.',
    ),
    Durability: header('How durable it is.', DURABILITY),
    Location: header('Where it can be fetched: an absolute path.'),
    ETag: header('The version, quoted.'),
    'Idempotency-Replayed': header('`true`: this is the answer of an earlier request with this key.'),
    'Cache-Control': header('Private, and to be asked about again each time.'),
    'Preference-Applied': header('`wait=N`, where it was asked for: how long it would have waited.'),
    RateLimit: header('What is left, per policy: `"name";r=<left>;t=<seconds>`.'),
    'RateLimit-Policy': header('What is allowed, per policy: `"name";q=<quota>;w=<seconds>`.'),
    'Server-Timing': header('`traceparent;desc="00-…"`: the trace of this request.'),
  },
  responses: Object.fromEntries(
    [...new Set(Object.values(problemTypes).map(({ status }) => status))].sort().map((status) => [
      `Problem${status}`,
      {
        description: Object.entries(problemTypes)
          .filter(([, type]) => type.status === status)
          .map(([code, type]) => `\`${code}\`: ${type.title}.`)
          .join(' '),
        headers: {
          ...(status === 401 ? { 'WWW-Authenticate': header('How to authenticate.') } : {}),
          ...(status === 429 || status === 503 ? { 'Retry-After': header('Seconds.') } : {}),
          // It is said before what is asked for is looked for.
          ...(AFTER_PREFERENCES.includes(status)
            ? { 'Preference-Applied': shared('Preference-Applied') }
            : {}),
          ...(status === 504 ? { Position: shared('Position'), Durability: shared('Durability') } : {}),
          // Where the route has limits, whatever it answers.
          RateLimit: shared('RateLimit'),
          'RateLimit-Policy': shared('RateLimit-Policy'),
          'Server-Timing': shared('Server-Timing'),
        },
        content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
      },
    ]),
  ),
};
