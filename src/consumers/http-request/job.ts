import type { Destination } from '../../domain/destinations.ts';
import {
  type HttpRequestPayload,
  HttpRequestResult,
  httpRequestFault,
  httpRequestsTo,
} from '../../domain/http-requests.ts';
import { defineJob, type JobContext, NoRetryError } from '../define-job.ts';
import { type AddressCheck, AddressRefusedError, checkedAddresses } from './addresses.ts';
import { outcomeOf } from './outcome.ts';
import { send } from './send.ts';
import { signatureHeaders } from './signature.ts';

export type HttpRequestDeps = {
  readonly destinations: readonly Destination[];
  readonly allows: AddressCheck;
  /** What the requests of an account are signed with; undefined: the installation's own. */
  readonly secretOf: (owner: string | undefined) => Buffer;
};

const TIMEOUT_SECONDS = 30;
/** Of an answer. As JSON, a byte may become six: all of it must fit into a result. */
const KEPT_BYTES = 32 * 1024;

/** Sends a signed request: a webhook call. What it may reach is the installation's to say. */
export function httpRequestJob(deps: HttpRequestDeps) {
  return defineJob({
    ...httpRequestsTo(deps.destinations),
    result: HttpRequestResult,
    run: (context) => sendRequest(deps, context),
  });
}

async function sendRequest(
  deps: HttpRequestDeps,
  { job, signal }: JobContext<HttpRequestPayload>,
): Promise<HttpRequestResult> {
  const { payload } = job;
  // What is allowed may have changed since it was asked for.
  const fault = httpRequestFault(deps.destinations, payload);
  if (fault) throw new NoRetryError(`${fault.path.slice(1)} ${fault.detail}`);
  const { method = 'POST', timeoutSeconds = TIMEOUT_SECONDS } = payload;
  const url = new URL(payload.url);
  const { body, contentType } = bodyOf(payload);
  const begun = performance.now();
  const inTime = AbortSignal.any([signal, AbortSignal.timeout(timeoutSeconds * 1000)]);
  try {
    const addresses = await checkedAddresses(url.hostname, deps.allows, inTime);
    const headers = {
      'user-agent': 'Millrace',
      accept: '*/*',
      ...(contentType ? { 'content-type': contentType } : {}),
      ...lowerCased(payload.headers),
      'accept-encoding': 'identity',
      ...signatureHeaders(deps.secretOf(job.owner), job.id, new Date(), body ?? Buffer.alloc(0)),
    };
    const answer = await send({
      url,
      method,
      headers,
      body,
      addresses,
      maxBytes: KEPT_BYTES,
      signal: inTime,
    });
    return outcomeOf(answer, Math.round(performance.now() - begun), Date.now());
  } catch (error) {
    if (error instanceof AddressRefusedError) throw new NoRetryError(error.message);
    if (signal.aborted || error instanceof NoRetryError || !inTime.aborted) throw spoken(error);
    throw new Error(`the receiver took longer than ${timeoutSeconds} s`);
  }
}

function bodyOf({ body }: HttpRequestPayload): { body?: Buffer; contentType?: string } {
  if (body === undefined) return {};
  if (typeof body === 'string') return { body: Buffer.from(body), contentType: 'text/plain; charset=utf-8' };
  return { body: Buffer.from(JSON.stringify(body)), contentType: 'application/json' };
}

function lowerCased(headers: Readonly<Record<string, string>> = {}): Record<string, string> {
  return Object.fromEntries(Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]));
}

/** Node's own errors name addresses, which are not for everybody: of those, the code. */
function spoken(error: unknown): unknown {
  if (!(error instanceof Error) || !('code' in error) || typeof error.code !== 'string') return error;
  if (error.name === 'AbortError') return error;
  return new Error(`the request was not answered: ${error.code}`);
}
