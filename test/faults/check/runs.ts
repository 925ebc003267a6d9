import type { Effect, History, Violation } from '../history.ts';
import { type JobRecord, jobsOf } from './jobs.ts';

const ENDED = ['succeeded', 'failed', 'cancelled'];
/** Clocks of two servers of one machine, read one after the other. */
const TOLERANCE_MS = 5;

/** Every job's events: whether a job can have such a history at all, and whose results were accepted. */
export function checkRuns(history: History): Violation[] {
  const jobs = jobsOf(history.events);
  const effects = Map.groupBy(history.effects, ({ job }) => job);
  const found: Violation[] = [];
  const processes = new Pairs();
  for (const [jobId, records] of jobs) {
    const of = effects.get(jobId) ?? [];
    found.push(...checkLife(jobId, records), ...checkTimes(jobId, records, of));
    found.push(...checkResults(jobId, records, of, processes));
  }
  const unknown = [...effects.keys()].filter((jobId) => !jobs.has(jobId));
  found.push(...unknown.map((jobId) => illegal(jobId, 'was run, and was never enqueued')));
  return [...found, ...processes.violations()];
}

const illegal = (jobId: string, what: string): Violation => ({ count: 'illegal', what: `${jobId} ${what}` });

/** By an automaton of the checker's own: what a job's events may be, whatever `src/domain` thinks. */
function checkLife(jobId: string, records: readonly JobRecord[]): Violation[] {
  const found: Violation[] = [];
  let phase = 'none';
  let attempts = 0;
  let completions = 0;
  for (const { type, data, version } of records) {
    const next = after(phase, type, data.recovered === true);
    if (type === 'JobCompleted' && ++completions > 1)
      found.push({ count: 'completedTwice', what: `${jobId}, version ${version}` });
    else if (next === undefined)
      found.push(illegal(jobId, `has ${type} (version ${version}) while ${phase}`));
    if (type === 'JobStarted') {
      if (data.attempt !== attempts + (data.recovered ? 0 : 1))
        found.push(illegal(jobId, `starts attempt ${data.attempt} after ${attempts} (version ${version})`));
      attempts = data.attempt ?? attempts;
    } else if (type === 'JobInterrupted' || type === 'JobSnoozed') attempts = (data.attempt ?? 1) - 1;
    else if (data.attempt !== undefined && data.attempt !== attempts)
      found.push({
        count: 'stale',
        what: `${jobId}: ${type} of attempt ${data.attempt} while at ${attempts}`,
      });
    phase = next ?? phase;
  }
  if (!ENDED.includes(phase))
    found.push({ count: 'unfinished', what: `${jobId} is ${phase} after ${records.at(-1)?.type}` });
  return found;
}

function after(phase: string, type: string, recovered: boolean): string | undefined {
  switch (type) {
    case 'JobEnqueued':
      return phase === 'none' ? 'waiting' : undefined;
    case 'JobStarted':
      return phase === (recovered ? 'running' : 'waiting') ? 'running' : undefined;
    case 'JobProgressed':
      return phase === 'running' ? phase : undefined;
    case 'JobCompleted':
      return phase === 'running' ? 'succeeded' : undefined;
    case 'JobDeadLettered':
      return phase === 'running' ? 'failed' : undefined;
    case 'JobAttemptFailed':
    case 'JobInterrupted':
    case 'JobSnoozed':
      return phase === 'running' ? 'waiting' : undefined;
    case 'JobCancelRequested':
      return phase === 'running' ? 'cancelling' : undefined;
    case 'JobCancelled':
      return phase === 'cancelling' || phase === 'waiting' ? 'cancelled' : undefined;
    case 'JobRetried':
      return phase === 'failed' || phase === 'cancelled' ? 'waiting' : undefined;
    case 'JobDiscarded':
      return phase === 'failed' ? phase : undefined;
    default:
      return undefined;
  }
}

/** No handler begins before its time: that of the job, or of its next attempt. */
function checkTimes(jobId: string, records: readonly JobRecord[], effects: readonly Effect[]): Violation[] {
  const due = new Map<number, number>();
  for (const { type, data } of records) {
    const attempt = data.attempt ?? 0;
    if (type === 'JobEnqueued' && data.runAt) due.set(1, Date.parse(data.runAt));
    if (type === 'JobAttemptFailed' && data.retryAt) due.set(attempt + 1, Date.parse(data.retryAt));
  }
  return effects
    .filter(({ what, attempt, at }) => what === 'begin' && at + TOLERANCE_MS < (due.get(attempt) ?? 0))
    .map(({ attempt, at, by }) => ({
      count: 'early' as const,
      what: `${jobId}, attempt ${attempt} by ${by}: ${(due.get(attempt) ?? 0) - at} ms before it was due`,
    }));
}

/**
 * A result names the run that it is of. It must be one of the worker whose start was accepted last, and the last one
 * that this process began: any other is that of an owner who had lost the job.
 */
function checkResults(
  jobId: string,
  records: readonly JobRecord[],
  effects: readonly Effect[],
  processes: Pairs,
): Violation[] {
  const found: Violation[] = [];
  const stale = (what: string) => found.push({ count: 'stale', what: `${jobId}: ${what}` });
  let worker: string | undefined;
  for (const { type, data } of records) {
    if (type === 'JobStarted') worker = data.worker;
    const isEnd = type === 'JobAttemptFailed' || type === 'JobDeadLettered' || type === 'JobInterrupted';
    // Who would have begun a job that has taken too many processes down gives it up instead of its last run.
    const givenUp = type === 'JobDeadLettered' && data.reason === 'takedowns';
    if (isEnd && !givenUp && data.worker !== undefined && data.worker !== worker)
      stale(`${type} by ${data.worker}, the last start is of ${worker}`);
    const { run, by } = data.result ?? {};
    if (type !== 'JobCompleted' || run === undefined || by === undefined || worker === undefined) continue;
    if (by.slice(0, by.lastIndexOf('.')) !== worker.slice(0, worker.lastIndexOf('#'))) {
      stale(`the result is of ${by}, the last start of ${worker}`);
      continue;
    }
    processes.saw(worker, by, jobId);
    const begun = effects.filter(
      (effect) => effect.what === 'begin' && effect.by === by && effect.attempt === data.attempt,
    );
    if (!begun.some((effect) => effect.run === run))
      found.push(illegal(jobId, `has a result of no run: ${run}`));
    else if (begun.at(-1)?.run !== run) stale(`the result is of run ${run}, which ${by} had begun anew`);
  }
  return found;
}

/** A worker's name in the log and the process in its results go together: one of each for the other. */
class Pairs {
  readonly #seen = new Map<string, Map<string, string>>();

  saw(worker: string, process: string, jobId: string): void {
    for (const [one, other] of [
      [worker, process],
      [process, worker],
    ] as const) {
      const others = this.#seen.get(one) ?? new Map<string, string>();
      others.set(other, jobId);
      this.#seen.set(one, others);
    }
  }

  violations(): Violation[] {
    return [...this.#seen]
      .filter(([, others]) => others.size > 1)
      .map(([one, others]) => ({
        count: 'stale',
        what: `${one} goes with ${[...others].map(([other, jobId]) => `${other} (${jobId})`).join(' and ')}`,
      }));
  }
}
