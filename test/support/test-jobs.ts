import { setTimeout as sleep } from 'node:timers/promises';
import { Type } from 'typebox';
import { defineJob, NoRetryError, SnoozeError } from '../../src/consumers/define-job.ts';

/**
 * The job `test`, as workers of tests and the processes that they let jobs run alone in know it. It takes
 * `payload.ms`, which it heeds its signal in; `on`: on one instance only, on others it succeeds at once; `how`:
 *
 * - `hang` holds the event loop all that time, `deaf` heeds no signal;
 * - `exit`, `abort`, `stray` (an error that nobody catches) and `hog` (memory) take the process down after that time;
 * - `fail`, `hopeless` and `snooze` end it then, `chatter` reports progress and writes to the log, and `verbose` has a
 *   result almost as large as may be.
 *
 * @param say told when a run begins, by which process, and when it has ended
 */
export const testJob = (
  instanceId: string,
  say: (word: 'begin' | 'end', jobId: string, attempt: number) => Promise<unknown>,
) =>
  defineJob({
    type: 'test',
    enqueuedBy: 'accounts',
    queue: 'default',
    maxAttempts: 3,
    timeoutSeconds: 60,
    retry: { baseMs: 20, capMs: 100 },
    payload: Type.Object({
      ms: Type.Number(),
      how: Type.Optional(
        Type.Enum([
          ...(['hang', 'deaf', 'exit', 'abort', 'stray', 'hog'] as const),
          ...(['fail', 'hopeless', 'snooze', 'chatter', 'verbose'] as const),
        ]),
      ),
      on: Type.Optional(Type.String()),
    }),
    result: Type.Object({ by: Type.String() }),
    async run({ job, signal, progress, logger }) {
      await say('begin', job.id, job.attempt);
      const { ms, how, on } = job.payload;
      if (on !== undefined && on !== instanceId) return { by: instanceId };
      // As a long loop, for less heat.
      if (how === 'hang') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
      else await sleep(ms, undefined, how === 'deaf' ? {} : { signal });
      switch (how) {
        case 'exit':
          return process.exit(0);
        case 'abort':
          return process.abort();
        case 'stray':
          setImmediate(() => {
            throw new Error('nobody catches this');
          });
          await sleep(60_000);
          break;
        case 'hog':
          for (const all: unknown[] = []; ; ) all.push(Array.from({ length: 1e5 }, () => ({})));
        case 'fail':
          throw new TypeError(`no luck with ${job.id}`);
        case 'hopeless':
          throw new NoRetryError('hopeless');
        case 'snooze':
          if (job.attempt === 1 && Date.now() < Date.parse(job.enqueuedAt) + 1_000) {
            throw new SnoozeError({ delayMs: 1_000 });
          }
          break;
        case 'chatter':
          progress(40, { rows: 4 });
          logger.info({ rows: 4 }, 'four rows');
      }
      await say('end', job.id, job.attempt);
      return { by: how === 'verbose' ? instanceId.padEnd(250_000, '.') : instanceId };
    },
  });
