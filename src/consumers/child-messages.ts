import { type Static, Type } from 'typebox';
import { Compile } from 'typebox/compile';
import { Failure } from '../domain/jobs/events.ts';

/*
 * What a worker and the process in which a job runs alone tell each other, as JSON. Both are the same code; but what
 * a handler does in there is its own affair, so that what comes from another process is checked like all else.
 */

const ToChild = Type.Union([
  Type.Object({
    kind: Type.Literal('run'),
    job: Type.Object({
      id: Type.String(),
      type: Type.String(),
      payload: Type.Unknown(),
      owner: Type.Optional(Type.String()),
      attempt: Type.Integer(),
      enqueuedAt: Type.String(),
    }),
    traceparent: Type.Optional(Type.String()),
  }),
  /** The handler is to end; name and message are those of the signal's reason. */
  Type.Object({ kind: Type.Literal('abort'), name: Type.String(), message: Type.String() }),
]);
export type ToChild = Static<typeof ToChild>;

const FromChild = Type.Union([
  /** It can run a job. */
  Type.Object({ kind: Type.Literal('ready') }),
  Type.Object({
    kind: Type.Literal('progress'),
    percent: Type.Number(),
    detail: Type.Optional(Type.Unknown()),
  }),
  /** A line of the log, as JSON. */
  Type.Object({ kind: Type.Literal('log'), line: Type.String() }),
  Type.Object({
    kind: Type.Literal('ended'),
    ending: Type.Union([
      Type.Object({ kind: Type.Literal('returned'), value: Type.Unknown() }),
      Type.Object({
        kind: Type.Literal('snoozed'),
        untilMs: Type.Number(),
        delayMs: Type.Optional(Type.Number()),
      }),
      Type.Object({
        kind: Type.Literal('failed'),
        error: Failure,
        final: Type.Boolean(),
        retryAfterMs: Type.Optional(Type.Number({ minimum: 0 })),
      }),
    ]),
  }),
]);
export type FromChild = Static<typeof FromChild>;

const toChild = Compile(ToChild);
const fromChild = Compile(FromChild);

/** Undefined: it is none of ours. */
export function parseToChild(message: unknown): ToChild | undefined {
  return toChild.Check(message) ? message : undefined;
}

/** Undefined: it is none of ours. */
export function parseFromChild(message: unknown): FromChild | undefined {
  return fromChild.Check(message) ? message : undefined;
}
