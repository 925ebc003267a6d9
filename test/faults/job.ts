import { setTimeout as sleep } from 'node:timers/promises';
import { Type } from 'typebox';
import { defineJob, type JobDefinition, NoRetryError, SnoozeError } from '../../src/consumers/define-job.ts';

/**
 * What one attempt does: takes its time, then ends well, throws, or throws for good; once, `snooze` puts it off first;
 * `die` kills the process that runs it, the first time.
 */
export const Step = Type.Object({
  ms: Type.Integer({ minimum: 0, maximum: 60_000 }),
  how: Type.Enum(['ok', 'throw', 'final', 'snooze', 'die']),
  /** It heeds no signal: it runs on although its lease is gone, and offers its result. */
  deaf: Type.Optional(Type.Boolean()),
});

/** `n`: the number of the wish that the job came from; an attempt beyond the last step does as the last. */
export const Payload = Type.Object({
  n: Type.Integer(),
  steps: Type.Array(Step, { minItems: 1, maxItems: 10 }),
});
/** Which run's result it is, and by which process. */
export const Result = Type.Object({ run: Type.String(), by: Type.String() });

export const SAID = ['begin', 'end', 'threw', 'snoozed', 'aborted'] as const;

export type Said = {
  readonly what: (typeof SAID)[number];
  readonly job: string;
  readonly attempt: number;
  /** Another for each time that a handler is called. */
  readonly run: string;
  /** The process, another after each restart. */
  readonly by: string;
};

/** `quick` is over in a few milliseconds as a rule: its start is recorded with its end, as long as that is so. */
export const FAULTS_JOBS = ['faults.work', 'faults.quick'] as const;

/** Jobs whose runs say in a log of their own what they do, wherever they are run. */
export function faultsJobs(deps: {
  readonly by: string;
  readonly newRun: () => string;
  readonly say: (said: Said) => Promise<void>;
  /** 1 for the first time that it is asked of a job. */
  readonly countOf: (job: string) => Promise<number>;
  readonly die: () => void;
}): JobDefinition[] {
  return FAULTS_JOBS.map((type) =>
    defineJob({
      type,
      enqueuedBy: 'accounts',
      // The checker reads payloads and results in the ledger.
      personal: false,
      queue: 'default',
      maxAttempts: 6,
      timeoutSeconds: 30,
      retry: { baseMs: 40, capMs: 400 },
      payload: Payload,
      result: Result,
      async run({ job, signal, progress }) {
        const run = deps.newRun();
        const say = (what: Said['what']) =>
          deps.say({ what, job: job.id, attempt: job.attempt, run, by: deps.by });
        const step = job.payload.steps[Math.min(job.attempt, job.payload.steps.length) - 1];
        if (!step) throw new NoRetryError('a job has a step at least');
        const began = say('begin');
        // What is said later arrives later: who is quick does not wait in between.
        if (type === 'faults.work') await began;
        try {
          if (step.ms > 400) progress(50);
          if (step.ms > 0) await sleep(step.ms, undefined, step.deaf ? {} : { signal });
        } catch (error) {
          await say('aborted');
          throw error;
        }
        const isFirst = (step.how === 'snooze' || step.how === 'die') && (await deps.countOf(job.id)) === 1;
        if (step.how === 'die' && isFirst) deps.die();
        if (step.how === 'snooze' && isFirst) {
          await say('snoozed');
          return new SnoozeError({ delayMs: 300 });
        }
        await say(step.how === 'throw' || step.how === 'final' ? 'threw' : 'end');
        if (step.how === 'throw') throw new Error(`attempt ${job.attempt} fails as planned`);
        if (step.how === 'final') throw new NoRetryError('fails for good, as planned');
        return { run, by: deps.by };
      },
    }),
  );
}
