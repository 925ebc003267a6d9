import type { Failure } from '../domain/jobs/events.ts';
import { type JobDefinition, NoRetryError, RetryLaterError } from './define-job.ts';

/** A result is part of an event; files belong into the blob store. */
const RESULT_BYTES = 256 * 1024;
/** A handler that asks for more has miscounted. */
const LONGEST_WAIT_MS = 7 * 24 * 3_600_000;
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

/** What a handler threw, cut to what `Failure` allows. Never throws. */
export function normaliseError(thrown: unknown): Failure {
  try {
    if (!(thrown instanceof Error)) return { name: 'Error', message: cut(describe(thrown), 4000) };
    const failure = { name: cut(String(thrown.name), 200), message: cut(String(thrown.message), 4000) };
    return typeof thrown.stack === 'string' ? { ...failure, stack: cut(thrown.stack, 8000) } : failure;
  } catch {
    return { name: 'Error', message: UNSPEAKABLE };
  }
}

export function isFinal(thrown: unknown): boolean {
  return thrown instanceof NoRetryError;
}

/** What the handler wants to be waited for before the next attempt, ms; backoff comes on top, so that not all come at once. */
export function leastDelayMs(thrown: unknown): number {
  if (!(thrown instanceof RetryLaterError) || !(thrown.retryAfterMs > 0)) return 0;
  return Math.min(thrown.retryAfterMs, LONGEST_WAIT_MS);
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
