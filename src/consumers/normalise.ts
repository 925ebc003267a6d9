import type { Failure } from '../domain/jobs/events.ts';
import { type JobDefinition, NoRetryError, RetryLaterError, SnoozeError } from './define-job.ts';
import { fingerprint } from './fingerprint.ts';

/** A result is part of an event; files belong into the blob store. */
const RESULT_BYTES = 256 * 1024;
const MAX_RETRY_AFTER_MS = 24 * 3_600_000;
const MAX_SNOOZE_MS = 10 * 366 * 24 * 3_600_000;
const MAX_CAUSES = 4;
const UNSPEAKABLE = 'something that cannot be written down was thrown';

/** The attempt took longer than the job allows. */
export class JobTimeoutError extends Error {
  override readonly name = 'JobTimeoutError';
}

/** Somebody cancelled the job: the reason of the handler's signal, which counts as no failure. */
export class JobCancelledError extends Error {
  override readonly name = 'JobCancelledError';
}

/** What a handler returned is no result of its type: the next attempt would return it again. */
export class InvalidResultError extends NoRetryError {
  override readonly name = 'InvalidResultError';
}

/** What came of a handler, as plain data: the same whether it ran here or in a process of its own. */
export type Ending =
  /** `value` is a result of the job's type, as an event can hold it. */
  | { readonly kind: 'returned'; readonly value: unknown }
  /** It wants to be run again at `untilMs`, milliseconds since 1970; or, where it said so, `delayMs` from now. */
  | { readonly kind: 'snoozed'; readonly untilMs: number; readonly delayMs?: number }
  | {
      readonly kind: 'failed';
      readonly error: Failure;
      /** Trying again is of no use. */
      readonly final: boolean;
      /** How long to wait before the type's backoff begins. */
      readonly retryAfterMs?: number;
    };

/** What a handler came to that returned. */
export function endingOf(definition: JobDefinition, returned: unknown): Ending {
  if (returned instanceof SnoozeError) return endingOfThrown(returned);
  try {
    return { kind: 'returned', value: normaliseResult(definition, returned) };
  } catch (error) {
    return endingOfThrown(error);
  }
}

/** What a handler came to that threw. Never throws. */
export function endingOfThrown(thrown: unknown): Ending {
  if (thrown instanceof SnoozeError) {
    const { untilMs, delayMs } = thrown;
    return {
      kind: 'snoozed',
      untilMs: Math.min(untilMs, Date.now() + MAX_SNOOZE_MS),
      ...(delayMs === undefined ? {} : { delayMs: Math.min(delayMs, MAX_SNOOZE_MS) }),
    };
  }
  const retryAfterMs = retryAfterOf(thrown);
  return {
    kind: 'failed',
    error: normaliseError(thrown),
    final: thrown instanceof NoRetryError,
    ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
  };
}

/**
 * What a handler returned, as an event can hold it: JSON, without U+0000 and lone surrogates, which Postgres
 * does not take everywhere. Throws `InvalidResultError`.
 */
export function normaliseResult(definition: JobDefinition, returned: unknown): unknown {
  const result = scrub(asJson(returned));
  const error = definition.resultError(result);
  if (error) throw new InvalidResultError(`the result is not a ${definition.type}'s: ${error}`);
  const bytes = Buffer.byteLength(JSON.stringify(result));
  if (bytes > RESULT_BYTES) throw new InvalidResultError(`the result has ${bytes} bytes`);
  return result;
}

/** What a handler reports beside its progress: the same care, but nothing that is worth failing for. */
export function normaliseDetail(detail: unknown): unknown {
  if (detail === undefined) return undefined;
  try {
    const clean = scrub(asJson(detail));
    return Buffer.byteLength(JSON.stringify(clean)) > RESULT_BYTES ? undefined : clean;
  } catch {
    return undefined;
  }
}

/** What a handler threw, cut to what `Failure` allows; its causes are part of the stack. Never throws. */
export function normaliseError(thrown: unknown): Failure {
  try {
    if (!(thrown instanceof Error)) return failureOf('Error', describe(thrown));
    const code = 'code' in thrown && typeof thrown.code === 'string' ? thrown.code : undefined;
    const stack = typeof thrown.stack === 'string' ? thrown.stack : undefined;
    return failureOf(String(thrown.name), String(thrown.message), { stack, code, causes: causesOf(thrown) });
  } catch {
    return failureOf('Error', UNSPEAKABLE);
  }
}

function failureOf(
  name: string,
  message: string,
  more: { stack?: string | undefined; code?: string | undefined; causes?: string } = {},
): Failure {
  const { stack, code, causes = '' } = more;
  return {
    name: cut(name, 200),
    message: cut(message, 4000),
    ...(stack === undefined ? {} : { stack: cut(stack + causes, 8000) }),
    fingerprint: fingerprint({ name, message, code, stack }),
  };
}

/** `fetch failed` says nothing; what it was caused by does. */
function causesOf(error: Error): string {
  let text = '';
  let { cause } = error;
  for (let depth = 0; cause !== undefined && depth < MAX_CAUSES; depth++) {
    text += `\ncaused by: ${cause instanceof Error ? (cause.stack ?? String(cause)) : describe(cause)}`;
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return text;
}

function retryAfterOf(thrown: unknown): number | undefined {
  if (!(thrown instanceof RetryLaterError) || !(thrown.retryAfterMs > 0)) return undefined;
  return Math.min(thrown.retryAfterMs, MAX_RETRY_AFTER_MS);
}

function asJson(value: unknown): unknown {
  try {
    return JSON.parse(JSON.stringify(value) ?? 'null');
  } catch (error) {
    throw new InvalidResultError(`the result is not JSON: ${normaliseError(error).message}`);
  }
}

function scrub(value: unknown): unknown {
  if (typeof value === 'string') return clean(value);
  if (Array.isArray(value)) return value.map(scrub);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [clean(key), scrub(item)]));
}

function clean(text: string): string {
  return text.replaceAll('\u0000', '\ufffd').toWellFormed();
}

function cut(text: string, length: number): string {
  return clean(text.slice(0, length));
}

function describe(thrown: unknown): string {
  return typeof thrown === 'string' ? thrown : (JSON.stringify(thrown) ?? String(thrown));
}
