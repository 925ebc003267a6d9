import type { Static, TSchema } from 'typebox';
import { Compile } from 'typebox/compile';
import type { JobEnqueued, JobPriority, JobQueue } from './jobs/events.ts';

/** Who may enqueue a job by naming its type. `nobody`: only a command of this code does, as part of something. */
export type EnqueuedBy = 'accounts' | 'operators' | 'nobody';

/** What is known of a type of jobs wherever it is asked for, without knowing how it is carried out. */
export type JobType = {
  /** Stored in events: a name for life. */
  readonly type: string;
  /** Where its jobs wait, unless they say otherwise. */
  readonly queue: JobQueue;
  readonly maxAttempts: number;
  /** Of one attempt. */
  readonly timeoutSeconds: number;
  /** Backoff between attempts: capped, exponential, with full jitter. */
  readonly retry: { readonly baseMs: number; readonly capMs: number };
  readonly enqueuedBy: EnqueuedBy;
  /** Of those with one `concurrencyKey`, how many run at once unless they say otherwise. Default: 1. */
  readonly concurrencyLimit?: number;
  readonly payload: TSchema;
  /**
   * `false`: no payload, result or failure of it says anything of a person. All others of an account's jobs are sealed with
   * its key, in events and wherever else they are kept. A job that is nobody's never is.
   */
  readonly personal?: false;
  /** What keeps a payload that is as its type says from being enqueued in this installation; undefined: nothing. */
  readonly permit?: (payload: unknown) => Objection | undefined;
};

export type Objection =
  /** No payload of this type would do. */
  | { readonly kind: 'forbidden'; readonly detail: string }
  /** This one does not. `path`: where in it, as a JSON pointer. */
  | { readonly kind: 'fault'; readonly path: string; readonly detail: string };

/** One part of a payload that is not as its type says, as JSON Schema's keywords have it. */
export type PayloadFault = {
  readonly keyword: string;
  readonly instancePath: string;
  readonly params: object;
  readonly message: string;
};

export type KnownJobType = JobType & {
  /** What is wrong with a payload; empty: nothing. */
  readonly faults: (payload: unknown) => readonly PayloadFault[];
};

/** The types of jobs of an installation, by name. */
export type JobTypes = ReadonlyMap<string, KnownJobType>;

/** Throws when two types have one name. */
export function createJobTypes(types: readonly JobType[]): JobTypes {
  const known = new Map<string, KnownJobType>();
  for (const type of types) {
    if (known.has(type.type)) throw new Error(`there are two job types named ${type.type}`);
    const payload = Compile(type.payload);
    known.set(type.type, { ...type, faults: (value) => (payload.Check(value) ? [] : payload.Errors(value)) });
  }
  return known;
}

/** Whether somebody of this role may enqueue jobs of a type. */
export function mayEnqueue({ enqueuedBy }: JobType, role: 'user' | 'operator'): boolean {
  return enqueuedBy === 'accounts' || (enqueuedBy === 'operators' && role === 'operator');
}

/** What a job is to be: its type's settings, where nothing else was asked for. */
export function jobOf(
  type: JobType,
  payload: unknown,
  wanted: {
    readonly queue?: JobQueue | undefined;
    readonly priority?: JobPriority | undefined;
    readonly maxAttempts?: number | undefined;
    readonly timeoutSeconds?: number | undefined;
    readonly runAt?: string | undefined;
    readonly callbackUrl?: string | undefined;
    readonly orderingKey?: string | undefined;
    readonly concurrencyKey?: string | undefined;
    readonly concurrencyLimit?: number | undefined;
  } = {},
): Static<typeof JobEnqueued> {
  return {
    type: type.type,
    payload,
    queue: wanted.queue ?? type.queue,
    priority: wanted.priority ?? 'normal',
    maxAttempts: wanted.maxAttempts ?? type.maxAttempts,
    timeoutSeconds: wanted.timeoutSeconds ?? type.timeoutSeconds,
    ...(wanted.runAt === undefined ? {} : { runAt: wanted.runAt }),
    ...(wanted.callbackUrl === undefined ? {} : { callbackUrl: wanted.callbackUrl }),
    ...(wanted.orderingKey === undefined ? {} : { orderingKey: wanted.orderingKey }),
    ...(wanted.concurrencyKey === undefined
      ? {}
      : {
          concurrencyKey: wanted.concurrencyKey,
          concurrencyLimit: wanted.concurrencyLimit ?? type.concurrencyLimit ?? 1,
        }),
  };
}
