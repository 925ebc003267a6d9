import { writeFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { parseStreamId } from '../domain/ids.ts';
import { createLogger, type LoggerOptions } from '../telemetry/logging.ts';
import { ATTR, SPAN } from '../telemetry/names.ts';
import { withSpan } from '../telemetry/tracing.ts';
import { type FromChild, parseToChild, type ToChild } from './child-messages.ts';
import type { JobDefinition } from './define-job.ts';
import { callHandler } from './in-process.ts';
import { type Ending, endingOfThrown } from './normalise.ts';
import { createProgress } from './progress.ts';

type Run = Extract<ToChild, { kind: 'run' }>;

/**
 * What a process does in which one job runs alone: says that it is ready, runs the job that it is given, says what came
 * of it, and ends. It has neither lease nor commit; the worker that started it (`in-child.ts`) records. It never
 * outlives that worker.
 *
 * @param options.beforeExit what is to be sent or closed before the end; the worker waits a second for it
 */
export function serveRun(
  jobs: readonly JobDefinition[],
  options: {
    readonly log: Pick<LoggerOptions, 'level' | 'instanceId'>;
    readonly beforeExit?: () => Promise<void>;
  },
): void {
  if (!process.connected) throw new Error('a worker starts this process, with a channel to itself');
  dieWithParent();
  dieFirstWhenMemoryIsShort();
  const logger = createLogger({
    ...options.log,
    role: 'job',
    destination: { write: (line) => tell({ kind: 'log', line }) },
  });
  const abort = new AbortController();

  async function run({ job, traceparent }: Run): Promise<Ending> {
    const id = parseStreamId(job.id, 'job');
    const definition = jobs.find(({ type }) => type === job.type);
    if (!id || !definition)
      return endingOfThrown(new Error(`${job.type} is not known in a process of its own`));
    const progress = createProgress(async (percent, detail) => {
      tell({ kind: 'progress', percent, ...(detail === undefined ? {} : { detail }) });
    });
    return withSpan(
      SPAN.jobAttempt,
      { parent: traceparent, attributes: { [ATTR.jobId]: id, [ATTR.jobType]: job.type } },
      () =>
        callHandler(definition, { ...job, id }, { signal: abort.signal, logger, progress: progress.report }),
    );
  }

  process.on('uncaughtException', (err) => {
    logger.fatal({ err }, 'a bug: it would have ended a worker');
    process.exit(1);
  });
  process.on('message', async (received) => {
    const message = parseToChild(received);
    if (message?.kind === 'abort')
      abort.abort(Object.assign(new Error(message.message), { name: message.name }));
    if (message?.kind !== 'run') return;
    await tell({ kind: 'ended', ending: await run(message) });
    await options.beforeExit?.();
    process.exit(0);
  });
  tell({ kind: 'ready' });
}

/** Resolves when the worker's end of the channel has all of it: what has not left by the end of this process is lost. */
function tell(message: FromChild): Promise<void> {
  return new Promise((resolve) => {
    // Where nobody listens any more, `disconnect` ends this process.
    process.send?.(message, undefined, undefined, () => resolve());
  });
}

function dieWithParent(): void {
  process.on('disconnect', () => process.exit(1));
  // Its signals are for the worker, which says when the job is to end: a terminal's Ctrl-C reaches both.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => {});
  new Worker(new URL('./child-watch.ts', import.meta.url), {
    workerData: process.ppid,
    execArgv: [],
    resourceLimits: { maxOldGenerationSizeMb: 16 },
  }).unref();
}

/** Linux' killer takes this process and not the worker beside it. Other systems have no such file. */
function dieFirstWhenMemoryIsShort(): void {
  try {
    writeFileSync('/proc/self/oom_score_adj', '1000');
  } catch {
    // Then it is a matter of size.
  }
}
