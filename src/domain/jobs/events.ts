import { type Static, Type } from 'typebox';

export const JobPriority = Type.Enum(['high', 'normal', 'low']);
export type JobPriority = Static<typeof JobPriority>;

/** Queues this code knows. Stored in keys and events: identifiers for life. */
export const JobQueue = Type.Enum(['default', 'exports', 'webhooks', 'email']);
export type JobQueue = Static<typeof JobQueue>;

const TypeName = Type.String({ pattern: '^[a-z][a-z0-9.-]{0,63}$', maxLength: 64 });
const Json = Type.Unknown();
const Time = Type.String({ maxLength: 30 });
const Attempt = Type.Integer({ minimum: 1 });
const Worker = Type.String({ maxLength: 200 });
/** An HMAC: keys of people's choosing may be an email, and stand in Redis' keys. */
const KeyHash = Type.String({ pattern: '^[0-9a-f]{16,64}$', maxLength: 64 });

/** As the job was enqueued with; repeated where it ends. Sealed it is longer. */
const CallbackUrl = Type.Optional(Type.String({ maxLength: 8400 }));
/** Of people's choosing: 200 characters, and longer sealed. */
const Key = Type.Optional(Type.String({ maxLength: 1024 }));

export const Failure = Type.Object({
  name: Type.String({ maxLength: 200 }),
  /** 4,000 characters, and longer sealed. */
  message: Type.String({ maxLength: 16_200 }),
  /** 8,000 characters, and longer sealed. */
  stack: Type.Optional(Type.String({ maxLength: 32_200 })),
  /** The same for failures of one kind at one place, whatever ids and numbers their messages hold. */
  fingerprint: Type.Optional(Type.String({ maxLength: 64 })),
});
export type Failure = Static<typeof Failure>;

/**
 * Of an account's jobs, unless their type says that nothing of it is personal, these are sealed with the person's key:
 * payload, result, detail, message and stack of failures, callback URL, ordering key and concurrency key. A job that tells
 * of another's end holds what was sealed there within its own payload.
 *
 * Every job event carries the job's type, so that a reader can leave out what it has no use for without
 * looking the job up.
 */
export const JobEnqueued = Type.Object({
  type: TypeName,
  payload: Json,
  queue: JobQueue,
  priority: JobPriority,
  maxAttempts: Type.Integer({ minimum: 1, maximum: 100 }),
  timeoutSeconds: Type.Integer({ minimum: 1, maximum: 86_400 }),
  /** When it is to be run, RFC 3339 UTC. Absent: at once. */
  runAt: Type.Optional(Time),
  /** Jobs of one owner, queue and ordering key run strictly one after another. */
  orderingKey: Key,
  /** What stands for owner and ordering key in Redis. Present with `orderingKey`. */
  lane: Type.Optional(KeyHash),
  /** Of one owner's jobs with this key at most `concurrencyLimit` run at once, over all queues. */
  concurrencyKey: Key,
  concurrencyLimit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000 })),
  /** What stands for owner and concurrency key in Redis. Present with `concurrencyKey`. */
  slots: Type.Optional(KeyHash),
  /** Who is told when the job ends, by an `http.request`. */
  callbackUrl: CallbackUrl,
  /** The tick that it is the run of. */
  schedule: Type.Optional(Type.Object({ id: Type.String({ maxLength: 80 }), tick: Time })),
});
export const JobStarted = Type.Object({
  type: TypeName,
  attempt: Attempt,
  worker: Worker,
  /** The run before this one ended without a word (its worker died): it is no attempt of its own. */
  recovered: Type.Boolean(),
  /** In a process of its own, since a run of it ended without a word: it may be what took its worker down. */
  alone: Type.Optional(Type.Boolean()),
});
export const JobProgressed = Type.Object({
  type: TypeName,
  /** Percent done, 0 to 100. */
  progress: Type.Number({ minimum: 0, maximum: 100 }),
  detail: Type.Optional(Json),
});
export const JobCompleted = Type.Object({
  type: TypeName,
  attempt: Attempt,
  result: Json,
  callbackUrl: CallbackUrl,
});
/** A worker that stops could not wait for the run: it is no attempt, and no sign of a job that kills workers. */
export const JobInterrupted = Type.Object({ type: TypeName, attempt: Attempt, worker: Worker });
/** The handler wants to be run again later: no attempt, and no failure. */
export const JobSnoozed = Type.Object({ type: TypeName, attempt: Attempt, until: Time });
export const JobAttemptFailed = Type.Object({
  type: TypeName,
  attempt: Attempt,
  error: Failure,
  retryAt: Time,
  worker: Type.Optional(Worker),
  /** The handler did not end when it was told to; whatever it still does counts for nothing. */
  ignoredAbort: Type.Optional(Type.Boolean()),
});
export const DeadLetterReason = Type.Enum(['attempts', 'no_retry', 'takedowns']);
export type DeadLetterReason = Static<typeof DeadLetterReason>;
export const JobDeadLettered = Type.Object({
  type: TypeName,
  attempt: Attempt,
  error: Failure,
  worker: Type.Optional(Worker),
  /** Its attempts are used up, its error says that trying again is of no use, or it took its process down. */
  reason: Type.Optional(DeadLetterReason),
  /** Where it waits and what waits behind it: said again, so that a reader of dead letters needs no other event. */
  queue: Type.Optional(JobQueue),
  orderingKey: Key,
  lane: Type.Optional(KeyHash),
  ignoredAbort: Type.Optional(Type.Boolean()),
  callbackUrl: CallbackUrl,
});
/** An operator gave a dead letter up: what waited behind it goes on. */
export const JobDiscarded = Type.Object({ type: TypeName });
/** Somebody wants a running job to end: its worker stops it, and says so with `JobCancelled`. */
export const JobCancelRequested = Type.Object({ type: TypeName });
export const JobCancelled = Type.Object({
  type: TypeName,
  /** Attempts begun until then. */
  attempts: Type.Integer({ minimum: 0 }),
  callbackUrl: CallbackUrl,
});
/** A job that had failed, or was cancelled, is to be run again, with all of its attempts. */
export const JobRetried = Type.Object({
  type: TypeName,
  /** Attempts begun until then: the next one has the next number. */
  attempts: Type.Integer({ minimum: 0 }),
  /** When it is due, RFC 3339 UTC. */
  dueAt: Time,
});

export type JobEvent =
  | { type: 'JobEnqueued'; data: Static<typeof JobEnqueued> }
  | { type: 'JobStarted'; data: Static<typeof JobStarted> }
  | { type: 'JobProgressed'; data: Static<typeof JobProgressed> }
  | { type: 'JobCompleted'; data: Static<typeof JobCompleted> }
  | { type: 'JobInterrupted'; data: Static<typeof JobInterrupted> }
  | { type: 'JobSnoozed'; data: Static<typeof JobSnoozed> }
  | { type: 'JobAttemptFailed'; data: Static<typeof JobAttemptFailed> }
  | { type: 'JobDeadLettered'; data: Static<typeof JobDeadLettered> }
  | { type: 'JobDiscarded'; data: Static<typeof JobDiscarded> }
  | { type: 'JobCancelRequested'; data: Static<typeof JobCancelRequested> }
  | { type: 'JobCancelled'; data: Static<typeof JobCancelled> }
  | { type: 'JobRetried'; data: Static<typeof JobRetried> };

/** All of them: what a projection handles that follows jobs from beginning to end. */
export const everyJobEvent: Readonly<Record<JobEvent['type'], true>> = {
  JobEnqueued: true,
  JobStarted: true,
  JobProgressed: true,
  JobInterrupted: true,
  JobSnoozed: true,
  JobAttemptFailed: true,
  JobCompleted: true,
  JobDeadLettered: true,
  JobDiscarded: true,
  JobCancelRequested: true,
  JobCancelled: true,
  JobRetried: true,
};
