import type { Reaction } from '../commands/reactions.ts';
import { codec, type RecordedEvent } from '../domain/events.ts';
import { httpRequestJobType } from '../domain/http-requests.ts';
import { type JobId, streamId } from '../domain/ids.ts';
import { jobOf } from '../domain/job-types.ts';
import type { Reactor } from './reactor.ts';

/** Stored in leases, cursors and events: a name for life. */
export const NOTIFIER = 'notifier';

/** A payload may have 256 KiB; larger results are left to be fetched. */
const RESULT_BYTES = 64 * 1024;

const ENDS = ['JobCompleted', 'JobDeadLettered', 'JobCancelled'] as const;
const KNOWN_ENDS: ReadonlySet<string> = new Set(ENDS);

/**
 * Tells who wants to know that a job has ended: by an `http.request` in the same partition, one for each end. A job
 * that ends, is retried by hand and ends again has two.
 *
 * @param hmac keyed hash as hex: nobody can foresee, or take, the id of the job that tells
 */
export function createNotifier(hmac: (purpose: string, text: string) => string): Reactor {
  return {
    name: NOTIFIER,
    reactsTo: ENDS,
    react(raw): Reaction | undefined {
      // Of the many events that are none of it, nothing is parsed.
      if (!KNOWN_ENDS.has(raw.type) || !raw.data.includes('"callbackUrl":')) return undefined;
      const event = codec.decode(raw);
      const url = callbackUrlOf(event);
      if (url === undefined) return undefined;
      const jobId: JobId = streamId('job', event.partition, hmac(NOTIFIER, event.id).slice(0, 32));
      const { owner, correlation, traceparent } = event.meta;
      return {
        jobId,
        job: jobOf(httpRequestJobType, { url, method: 'POST', body: notificationOf(event) }),
        event: {
          id: event.id,
          seq: event.seq,
          correlation,
          ...(owner === undefined ? {} : { owner }),
          ...(traceparent === undefined ? {} : { traceparent }),
        },
      };
    },
  };
}

function callbackUrlOf(event: RecordedEvent): string | undefined {
  switch (event.type) {
    case 'JobCompleted':
    case 'JobDeadLettered':
    case 'JobCancelled':
      return event.data.callbackUrl;
    default:
      return undefined;
  }
}

/** What the receiver is sent. Its fields are part of the contract, as `GET /v1/jobs/{id}` has them. */
function notificationOf(event: RecordedEvent) {
  const { streamId: id, version, meta } = event;
  const common = { id, version, finishedAt: meta.at, href: `/v1/jobs/${id}` };
  switch (event.type) {
    case 'JobCompleted': {
      const { type, result } = event.data;
      // Sealed it is a third longer; nobody opens it before it is sent.
      const most = typeof result === 'string' ? (RESULT_BYTES * 4) / 3 + 100 : RESULT_BYTES;
      const fits = Buffer.byteLength(JSON.stringify(result)) <= most;
      return { ...common, type, status: 'succeeded', ...(fits ? { result } : { resultOmitted: true }) };
    }
    case 'JobDeadLettered': {
      // Without the stack, which tells about our insides.
      const { name, message } = event.data.error;
      return { ...common, type: event.data.type, status: 'failed', error: { name, message } };
    }
    case 'JobCancelled':
      return { ...common, type: event.data.type, status: 'cancelled' };
    default:
      throw new Error(`${event.type} ends no job`);
  }
}
