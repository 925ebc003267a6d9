import { type TProperties, Type } from 'typebox';

/** A body or a query as it comes in: what is not named is refused. */
export function Strict<P extends TProperties>(properties: P) {
  return Type.Object(properties, { additionalProperties: false });
}

export const Id = Type.String({ maxLength: 80, examples: ['exp-0fA1b2C3d4E5f6G7h8I9j0'] });
export const Time = Type.String({
  format: 'date-time',
  // RFC 3339 knows leap seconds, Date does not.
  pattern: '^.{17}[0-5]',
  maxLength: 40,
  examples: ['2026-11-20T21:47:00.000Z'],
});
export const Version = Type.Integer({ minimum: 0, description: 'The same as in the ETag.' });

export const IdParams = Type.Object({ id: Type.String({ maxLength: 500 }) });

export const Limit = Type.Integer({ minimum: 1, maximum: 200, default: 50 });
export const Cursor = Type.String({ maxLength: 500, description: 'From `nextCursor` of the page before.' });

/** How far a job, or what a job carries out, has come. */
export const Status = Type.Enum([
  'scheduled',
  'queued',
  'running',
  'retrying',
  'succeeded',
  'failed',
  'cancelled',
]);

/** The last failure of a job, as its owner may know it. */
export const Failure = Type.Object({ name: Type.String(), message: Type.String() });

/** RFC 9457. */
export const ProblemSchema = Type.Object(
  {
    type: Type.String({ format: 'uri-reference', description: 'A page about this kind of problem.' }),
    title: Type.String(),
    status: Type.Integer({ minimum: 400, maximum: 599 }),
    detail: Type.String(),
    instance: Type.String({ format: 'uri', description: 'Names this occurrence.' }),
    code: Type.String({ description: 'Stable: what programs go by.' }),
    traceId: Type.Optional(Type.String()),
    errors: Type.Optional(
      Type.Array(
        Type.Object({
          pointer: Type.Optional(Type.String({ description: 'JSON pointer into the body.' })),
          parameter: Type.Optional(Type.String({ description: 'Name in the path, the query or a header.' })),
          detail: Type.String(),
        }),
      ),
    ),
  },
  { description: 'Problem details, RFC 9457.' },
);

/** Sent as `undefined`: of a null Fastify says that it is JSON. */
export const NotModified = Type.Unsafe<undefined>({
  type: 'null',
  description: 'The client has this version.',
});
