import type { JobRun } from '../commands/jobs/record.ts';
import { ATTR, SPAN } from '../telemetry/names.ts';
import { type Span, SpanKind, withSpan } from '../telemetry/tracing.ts';
import type { JobOutcome } from './conclude.ts';
import type { JobToRun } from './take.ts';

/** A job that waited longer was scheduled or stuck: its run is a trace of its own, linked to the cause. */
const PROMPT_MS = 60_000;

/** A run in a span of its own, with its outcome; what is no outcome is told as `gone`. */
export function inSpan<R extends JobOutcome | object>(
  job: JobToRun,
  run: JobRun,
  now: Date,
  work: () => Promise<R>,
): Promise<R> {
  return withSpan(`${SPAN.process} ${job.type}`, spanOf(job, run, now), (span: Span) =>
    span.isRecording() ? noted(span, work()) : work(),
  );
}

async function noted<R extends JobOutcome | object>(span: Span, work: Promise<R>): Promise<R> {
  const outcome = await work;
  span.setAttribute(ATTR.outcome, typeof outcome === 'string' ? outcome : 'gone');
  return outcome;
}

function spanOf(job: JobToRun, run: JobRun, now: Date) {
  const prompt = run.attempt === 1 && !run.recovered && now.getTime() - job.dueAt < PROMPT_MS;
  return {
    kind: SpanKind.CONSUMER,
    ...(prompt ? { parent: job.traceparent } : { root: true, links: [job.traceparent] }),
    attributes: () => ({
      [ATTR.messagingSystem]: 'redis',
      [ATTR.messagingOperation]: 'process',
      [ATTR.messagingDestination]: job.queue,
      [ATTR.messagingGroup]: job.lease.group,
      [ATTR.messagingMessageId]: job.entryId,
      [ATTR.jobId]: job.jobId,
      [ATTR.jobType]: job.type,
      [ATTR.jobAttempt]: run.attempt,
    }),
  };
}
