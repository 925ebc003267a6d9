import type { HttpRequestResult } from '../../domain/http-requests.ts';
import { NoRetryError, RetryLaterError } from '../define-job.ts';
import type { Answer } from './send.ts';

/** Headers of an answer that are kept with the result, where it has them. */
const KEPT_HEADERS = ['content-type', 'date', 'etag', 'location', 'retry-after', 'x-request-id'] as const;
const HEADER_CHARACTERS = 500;
/** Of an answer's body, in the message of a failure. */
const QUOTED_CHARACTERS = 300;
/** The receiver is busy, not yet ready, or limits its callers; and its own failures (RFC 9110, 6585, 8470). */
const WORTH_ANOTHER = new Set([408, 425, 429]);
const LONGEST_RETRY_AFTER_MS = 24 * 3_600_000;

/**
 * What an answer means for the job: the result of a 2xx. Throws `NoRetryError` for a redirect, which is not followed,
 * and for what the receiver would say again; `RetryLaterError` where it says when to come back.
 */
export function outcomeOf(answer: Answer, durationMs: number, now: number): HttpRequestResult {
  const { status, truncated } = answer;
  const body = answer.body.toString('utf8');
  if (status >= 200 && status < 300) {
    return { status, headers: keptHeaders(answer), body, bodyTruncated: truncated, durationMs };
  }
  if (status >= 300 && status < 400) {
    throw new NoRetryError(`the receiver answered ${status}, a redirect: those are not followed`);
  }
  const quoted = body.slice(0, QUOTED_CHARACTERS).trim();
  const message = `the receiver answered ${status}${quoted === '' ? '' : `: ${quoted}`}`;
  if (status < 500 && !WORTH_ANOTHER.has(status)) throw new NoRetryError(message);
  throw new RetryLaterError(message, { retryAfterMs: retryAfterMs(answer.headers['retry-after'], now) });
}

function keptHeaders({ headers }: Answer): Record<string, string> {
  return Object.fromEntries(
    KEPT_HEADERS.flatMap((name) => {
      const value = headers[name];
      return typeof value === 'string' ? [[name, value.slice(0, HEADER_CHARACTERS)]] : [];
    }),
  );
}

/**
 * `Retry-After` (RFC 9110, 10.2.3), seconds or a date, as milliseconds from `now` (ms since 1970), a day at most.
 * 0: it is absent, past, or not to be understood.
 */
export function retryAfterMs(header: string | undefined, now: number): number {
  const text = header?.trim() ?? '';
  const ms = /^\d+$/.test(text) ? Number(text) * 1000 : Date.parse(text) - now;
  return ms > 0 ? Math.min(ms, LONGEST_RETRY_AFTER_MS) : 0;
}
