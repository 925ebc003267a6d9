import fc from 'fast-check';
import {
  type Account,
  accountFold,
  completeErasure,
  eraseAccount,
  registerAccount,
  type Sealed,
} from '../../../src/domain/accounts.ts';
import type { Decision } from '../../../src/domain/decision.ts';
import type { RawEvent } from '../../../src/domain/event.ts';
import { codec, type DomainEvent } from '../../../src/domain/events.ts';
import { EXPORT_JOB, requestExport } from '../../../src/domain/exports.ts';
import {
  type EventId,
  exportOfJob,
  type JobId,
  type StreamId,
  type StreamKind,
  streamId,
} from '../../../src/domain/ids.ts';
import type { JobEvent } from '../../../src/domain/jobs/events.ts';
import { cancelJob, discardJob, enqueueJob, retryJob } from '../../../src/domain/jobs/requests.ts';
import {
  completeJob,
  failJob,
  interruptJob,
  progressJob,
  snoozeJob,
  startJob,
} from '../../../src/domain/jobs/runs.ts';
import { type Job, jobFold } from '../../../src/domain/jobs/state.ts';
import { recordOperation } from '../../../src/domain/operations.ts';
import {
  createSchedule,
  deleteSchedule,
  type Schedule,
  type ScheduleEvent,
  scheduleFold,
  tickSchedule,
} from '../../../src/domain/schedules.ts';
import { startSession } from '../../../src/domain/sessions.ts';

/** What happens to one stream, or to the two of an export, in order. */
export type Story = readonly { readonly stream: StreamId; readonly event: DomainEvent }[];

const sealed = (text: string) => `sealed:v1:${text}` as Sealed;
const unique = fc.stringMatching(/^[0-9A-Za-z]{20}$/);
const json = fc.jsonValue({ maxDepth: 2 });
const failure = fc.record({
  name: fc.constantFrom('Error', 'TypeError'),
  message: fc.string({ unit: 'binary' }),
});

/** Steps that a job may take; those that its state refuses do not happen. */
const step = fc.oneof(
  fc.record({ kind: fc.constant('start' as const), worker: fc.constantFrom('w1', 'w2') }),
  fc.record({
    kind: fc.constant('progress' as const),
    percent: fc.double({ min: 0, max: 100, noNaN: true }),
    detail: fc.oneof(fc.record({ rows: fc.nat(), bytes: fc.maxSafeNat() }), json, fc.constant(undefined)),
  }),
  fc.record({ kind: fc.constant('complete' as const), result: json, rows: fc.nat() }),
  fc.record({ kind: fc.constant('fail' as const), error: failure, final: fc.boolean() }),
  fc.record({ kind: fc.constant('cancel' as const) }),
  fc.record({ kind: fc.constant('retry' as const) }),
  fc.record({ kind: fc.constant('interrupt' as const) }),
  fc.record({ kind: fc.constant('snooze' as const) }),
  fc.record({ kind: fc.constant('discard' as const) }),
);
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never;

function decide(state: Job, step: Step, isExport: boolean): Decision<JobEvent> {
  switch (step.kind) {
    case 'start':
      return startJob(state, step.worker);
    case 'progress':
      return progressJob(state, step.percent, step.detail);
    case 'complete':
      return completeJob(state, isExport ? exportResult(step.rows) : step.result);
    case 'fail':
      return failJob(state, { error: step.error, final: step.final, retryAt: '2026-01-01T00:00:00.000Z' });
    case 'interrupt':
      return interruptJob(state, 'w1');
    case 'snooze':
      return snoozeJob(state, '2026-01-03T00:00:00.000Z');
    case 'discard':
      return discardJob(state);
    case 'cancel':
      return cancelJob(state);
    case 'retry':
      return retryJob(state, '2026-01-02T00:00:00.000Z');
  }
}

function exportResult(rows: number) {
  return { blob: 'exports/b', fileName: 'events.ndjson.gz', bytes: rows * 7, rows, sha256: 'a'.repeat(64) };
}

function runOfJob(id: JobId, enqueued: JobEvent, steps: readonly Step[], isExport: boolean): Story {
  const meta = { at: '2026-01-01T00:00:00.000Z', correlation: 'c' };
  let state = jobFold.evolve(jobFold.initial, { ...enqueued, ...meta });
  return steps.flatMap((each) => {
    const decision = decide(state, each, isExport);
    if (!decision.ok) return [];
    for (const event of decision.events) state = jobFold.evolve(state, { ...event, ...meta });
    return decision.events.map((event) => ({ stream: id, event }));
  });
}

/** The events of a decision that can't be refused here. */
function decided<E>(decision: Decision<E>): readonly E[] {
  if (!decision.ok) throw new Error(decision.refusal.code);
  return decision.events;
}

const spec = { queue: 'default', priority: 'normal', maxAttempts: 3, timeoutSeconds: 60 } as const;

function jobStory(partition: number): fc.Arbitrary<Story> {
  return fc
    .record({
      unique,
      steps: fc.array(step, { maxLength: 8 }),
      payload: json,
      later: fc.boolean(),
      keyed: fc.boolean(),
    })
    .map(({ unique, steps, payload, later, keyed }) => {
      const id: JobId = streamId('job', partition, unique);
      const due = later ? { runAt: '2026-02-01T00:00:00.000Z' } : {};
      const key = keyed ? { orderingKey: 'ada', lane: 'a'.repeat(32) } : {};
      return decided(
        enqueueJob({ phase: 'none' }, { ...spec, ...due, ...key, type: 'mail', payload }),
      ).flatMap((event) => [{ stream: id, event }, ...runOfJob(id, event, steps, false)]);
    });
}

function exportStory(partition: number): fc.Arbitrary<Story> {
  return fc
    .record({ unique, steps: fc.array(step, { maxLength: 8 }), requestFirst: fc.boolean() })
    .map(({ unique, steps, requestFirst }) => {
      const jobId: JobId = streamId('job', partition, unique);
      const exportId = exportOfJob(jobId);
      const [requested] = decided(
        requestExport(
          { phase: 'none' },
          { dataset: 'events', format: 'csv', scope: 'own', jobId, heads: [3] },
        ),
      );
      const [enqueued] = decided(
        enqueueJob({ phase: 'none' }, { ...spec, type: EXPORT_JOB, payload: { exportId } }),
      );
      if (!requested || !enqueued) throw new Error('nothing was decided');
      const commit = [
        { stream: exportId, event: requested },
        { stream: jobId, event: enqueued },
      ];
      return [...(requestFirst ? commit : commit.reverse()), ...runOfJob(jobId, enqueued, steps, true)];
    });
}

function accountStory(partition: number): fc.Arbitrary<Story> {
  return fc.tuple(unique, fc.nat(2), fc.nat()).map(([unique, erasing, jobs]) => {
    const id = streamId('acc', partition, unique);
    const data = { email: sealed('e'), name: sealed('n'), role: 'user' } as const;
    const meta = { at: '2026-01-01T00:00:00.000Z', correlation: 'c' };
    const erased = { sessions: 1, jobs, schedules: 0, exports: 2 };
    const jobId = streamId('job', partition, unique);
    const decisions = [
      (state: Account) => registerAccount(state, data),
      (state: Account) => eraseAccount(state, jobId),
      (state: Account) => completeErasure(state, erased),
    ];
    let state: Account = accountFold.initial;
    return decisions.slice(0, erasing + 1).flatMap((decide) => {
      const events = decided(decide(state));
      for (const event of events) state = accountFold.evolve(state, { ...event, ...meta });
      return events.map((event) => ({ stream: id, event }));
    });
  });
}

/** Of a schedule that ticks every hour, by workers that were away for some time. */
function scheduleStory(partition: number): fc.Arbitrary<Story> {
  const HOUR = 3_600_000;
  const ticks = {
    next: (after: number) => (Math.floor(after / HOUR) + 1) * HOUR,
    upTo: (at: number, most: number) =>
      Array.from({ length: most }, (_, index) => (Math.floor(at / HOUR) - index) * HOUR),
  };
  const away = fc.oneof(fc.nat(HOUR), fc.nat(30 * HOUR), fc.constant(undefined));
  return fc
    .record({
      ...{ unique, payload: json, missed: fc.constantFrom('skip', 'once', 'all') },
      steps: fc.array(away, { maxLength: 6 }),
    })
    .map(({ unique, payload, missed, steps }) => {
      const id = streamId('sched', partition, unique);
      const meta = { at: '2026-01-01T00:00:00.000Z', correlation: 'c' };
      let state: Schedule = scheduleFold.initial;
      let now = Date.UTC(2026, 0, 1);
      const story: { stream: StreamId; event: DomainEvent }[] = [];
      const add = (decision: Decision<ScheduleEvent>) => {
        for (const event of decided(decision)) {
          state = scheduleFold.evolve(state, { ...event, ...meta });
          story.push({ stream: id, event });
        }
      };
      const job = { ...spec, type: 'mail', payload };
      const next = new Date(ticks.next(now)).toISOString();
      add(createSchedule(state, { cron: '0 * * * *', timezone: 'UTC', missed, job, next }));
      for (const step of steps) {
        now += step ?? 0;
        const jobIdOf = (tick: string): JobId =>
          streamId('job', partition, `${unique}${tick.replaceAll(/\D/g, '')}`);
        add(step === undefined ? deleteSchedule(state) : tickSchedule(state, { now, ticks, jobIdOf }));
      }
      return story;
    });
}

function operationStory(partition: number): fc.Arbitrary<Story> {
  return fc.tuple(unique, fc.dictionary(fc.string(), json)).map(([unique, parameters]) => {
    const id = streamId('op', partition, unique);
    const operation = { operation: 'projection.rebuild', target: 'jobs', parameters };
    return decided(recordOperation({ phase: 'none' }, operation, 'why not')).map((event) => ({
      stream: id,
      event,
    }));
  });
}

/** Of no concern to any read model. */
function sessionStory(partition: number): fc.Arbitrary<Story> {
  return unique.map((unique) => {
    const id = streamId('ses' satisfies StreamKind, partition, unique);
    const data = { accountId: 'acc', refreshHash: 'a'.repeat(64), expiresAt: '2027-01-01T00:00:00.000Z' };
    return decided(startSession({ phase: 'none' }, data)).map((event) => ({ stream: id, event }));
  });
}

/** What a partition's log may hold: several stories, their events interleaved, each in its own order. */
export function history(partition: number): fc.Arbitrary<RawEvent[]> {
  const story = fc.oneof(
    jobStory(partition),
    exportStory(partition),
    accountStory(partition),
    scheduleStory(partition),
    operationStory(partition),
    sessionStory(partition),
  );
  return fc
    .tuple(
      fc.array(story, { minLength: 1, maxLength: 6 }),
      fc.infiniteStream(fc.nat()),
      fc.array(fc.option(fc.constantFrom('acc-1', 'acc-2')), { minLength: 6, maxLength: 6 }),
    )
    .map(([stories, choices, owners]) => {
      const log = createLog(partition);
      const waiting = stories.map((story, index) => ({ events: [...story], owner: owners[index] }));
      while (waiting.length > 0) {
        const at = (choices.next().value ?? 0) % waiting.length;
        const chosen = waiting[at];
        const next = chosen?.events.shift();
        if (chosen && next) log.append(next.stream, next.event, chosen.owner ?? undefined);
        if (chosen?.events.length === 0) waiting.splice(at, 1);
      }
      return log.events;
    });
}

export type Log = {
  readonly events: RawEvent[];
  append(stream: StreamId, event: DomainEvent, owner?: string): RawEvent;
};

/** The log of one partition, with the seqs, versions and metadata that commits would write. */
export function createLog(partition: number): Log {
  const events: RawEvent[] = [];
  const versions = new Map<StreamId, number>();
  return {
    events,
    append(stream, event, owner) {
      const seq = events.length + 1;
      const version = (versions.get(stream) ?? 0) + 1;
      versions.set(stream, version);
      const meta = {
        schema: codec.check(event.type, event.data),
        at: new Date(Date.UTC(2026, 0, 1) + seq * 1001).toISOString(),
        actor: owner ?? 'system:test',
        correlation: 'c',
        traceparent: `00-${String(seq).padStart(32, '0')}-00000000000000ff-00`,
        ...(owner === undefined ? {} : { owner }),
        // As operators' changes have it.
        ...(seq % 3 === 0 ? { reason: 'because' } : {}),
      };
      const raw: RawEvent = {
        partition,
        epoch: 1,
        seq,
        id: `${partition}e${seq}` as EventId,
        streamId: stream,
        version,
        type: event.type,
        data: JSON.stringify(event.data),
        meta: JSON.stringify(meta),
      };
      events.push(raw);
      return raw;
    },
  };
}
