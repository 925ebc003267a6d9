import { AsyncResource } from 'node:async_hooks';
import type { ChildProcess } from 'node:child_process';
import type { Logger } from '../telemetry/logging.ts';
import { currentTraceparent } from '../telemetry/tracing.ts';
import { pause, untilAborted } from './backoff.ts';
import { type FromChild, parseFromChild, type ToChild } from './child-messages.ts';
import type { JobContext, JobDefinition } from './define-job.ts';
import type { JobGiven } from './in-process.ts';
import { type Ending, endingOf } from './normalise.ts';
import type { Handling } from './perform.ts';
import type { Slots } from './slots.ts';

/** How long a process may take until it can run a job. */
const READY_MS = 30_000;
/** How long it may take to leave when its job has ended. */
const LEAVE_MS = 1_000;

/** Processes of a worker in which jobs run alone. */
export type Children = {
  /** How many there may be at once: what bounds the memory that they take. */
  readonly slots: Slots;
  /** Starts a process that calls `serveRun` with all types of jobs that this worker knows. */
  readonly spawn: SpawnChild;
};
export type SpawnChild = () => ChildProcess;

/**
 * Runs a job's handler in a process of its own, which has ended by the time that the handler's end is told. Undefined:
 * there was no such process, or not in time, and the job has not begun.
 */
export async function handleInChild(
  spawn: SpawnChild,
  definition: JobDefinition,
  job: JobGiven,
  around: Pick<JobContext<unknown>, 'signal' | 'progress' | 'logger'>,
): Promise<Handling | undefined> {
  const { signal, progress, logger } = around;
  const child = start(spawn, logger);
  if (!child) return undefined;
  const over = endOf(child);
  const kill = () => void child.kill('SIGKILL');
  const ready = Promise.withResolvers<void>();
  let ending: Ending | undefined;

  function heard(message: FromChild): void {
    if (message.kind === 'ready') ready.resolve();
    else if (message.kind === 'progress') progress(message.percent, message.detail);
    else if (message.kind === 'log') forward(logger, message.line);
    else {
      ending ??= checked(definition, message.ending);
      setTimeout(kill, LEAVE_MS).unref();
    }
  }
  // Bound: lines that it logs belong to the trace of this run.
  const listener = AsyncResource.bind((received: unknown) => {
    const message = parseFromChild(received);
    if (message) heard(message);
  });
  child.on('message', listener);

  if (!(await isReady(ready.promise, over, signal))) {
    kill();
    if (!signal.aborted) logger.error({ how: await over }, 'there is no process for a job to run alone in');
    return undefined;
  }
  const traceparent = currentTraceparent();
  send(child, { kind: 'run', job, ...(traceparent ? { traceparent } : {}) });
  const stopTelling = tellToEnd(child, signal);
  const ended = over.then((how) => {
    stopTelling();
    return ending ?? { kind: 'gone' as const, how };
  });
  return {
    ended,
    async abandon() {
      kill();
      await over;
    },
  };
}

/** False: it ended before, took too long, or the signal came first. */
async function isReady(ready: Promise<void>, over: Promise<unknown>, signal: AbortSignal): Promise<boolean> {
  const decided = new AbortController();
  const tooLate = pause(READY_MS, decided.signal);
  const first = Promise.race([ready.then(() => true), over.then(() => false), tooLate.then(() => false)]);
  const isReady = await untilAborted(first, signal);
  decided.abort();
  return isReady ?? false;
}

/** Hands the signal's reason on. @returns a function that ends that */
function tellToEnd(child: ChildProcess, signal: AbortSignal): () => void {
  const tell = () => {
    const { name, message } = signal.reason instanceof Error ? signal.reason : new Error('aborted');
    send(child, { kind: 'abort', name, message });
  };
  if (signal.aborted) tell();
  else signal.addEventListener('abort', tell, { once: true });
  return () => signal.removeEventListener('abort', tell);
}

function start(spawn: SpawnChild, logger: Logger): ChildProcess | undefined {
  try {
    return spawn();
  } catch (err) {
    logger.error({ err }, 'no process could be started');
    return undefined;
  }
}

/** How a process ended, for people to read; once all that it said has been heard. */
function endOf(child: ChildProcess): Promise<string> {
  const heardAll = new Promise<void>((resolve) => child.once('disconnect', resolve));
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => {
      const how = signal ? `ended by ${signal}` : `exit status ${code}`;
      if (child.connected) void heardAll.then(() => resolve(how));
      else resolve(how);
    });
  });
}

function send(child: ChildProcess, message: ToChild): void {
  // One that is gone by now has an end of its own.
  if (child.connected) child.send(message, () => {});
}

/** What it says is a result is looked at here, too. */
function checked(definition: JobDefinition, ending: Ending): Ending {
  return ending.kind === 'returned' ? endingOf(definition, ending.value) : ending;
}

const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal'] as const;

/** Writes a line of the child's log as one of ours. */
function forward(logger: Logger, line: string): void {
  const { level, msg, time: _time, role: _role, instanceId: _instanceId, ...fields } = parse(line);
  const known = LEVELS.find((name) => name === level) ?? 'info';
  logger[known](fields, String(msg ?? ''));
}

function parse(line: string): Record<string, unknown> {
  try {
    const fields: unknown = JSON.parse(line);
    return typeof fields === 'object' && fields !== null ? { ...fields } : { msg: line };
  } catch {
    return { msg: line };
  }
}
