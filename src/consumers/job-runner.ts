import type { JobRun } from '../commands/jobs/record.ts';
import { openKept, openRun, phaseOf } from '../commands/jobs/runs.ts';
import { timeOf } from '../commands/jobs/taken.ts';
import { PLAIN, type Sealer } from '../domain/jobs/personal.ts';
import type { Logger } from '../telemetry/logging.ts';
import { beginEarly } from './begin-early.ts';
import { conclude, type JobOutcome, outcomeOf } from './conclude.ts';
import type { JobDefinition } from './define-job.ts';
import { inSpan } from './job-span.ts';
import type { Ending } from './normalise.ts';
import type { Performed } from './perform.ts';
import { persistently } from './persistently.ts';
import { type JobRunnerDeps, observeWait, type Place, runRecorded } from './run-recorded.ts';
import { personOf } from './seals.ts';
import type { JobToRun } from './take.ts';

/** For so long the state that came with a work entry is good enough to begin by: it may be cancelled meanwhile. */
const STATE_GOOD_MS = 100;

/**
 * Runs a job until something is known of it. Never rejects, and never throws.
 *
 * Of a type whose jobs are over soon, one is begun at once, by the state that came with its entry, and its start recorded
 * with its end, or soon after. Not if it was given out before: it may be what took its worker down. Nor if it has a key: were it cancelled before its start is
 * recorded, the next of that key would begin while its handler runs on.
 */
export function runJob(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  job: JobToRun,
  place: Place,
): Promise<JobOutcome> {
  let child: Logger | undefined;
  const logger = () => {
    child ??= deps.logger.child({ jobId: job.jobId, jobType: job.type });
    return child;
  };
  const leave = (err: unknown): JobOutcome => {
    logger().error({ err }, 'a run was not recorded; the job is left for the next owner');
    return 'left';
  };
  try {
    return begin(deps, definition, job, place, logger).catch(leave);
  } catch (err) {
    // The state that came with the entry is none.
    return Promise.resolve(leave(err));
  }
}

function begin(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  job: JobToRun,
  place: Place,
  logger: () => Logger,
): Promise<JobOutcome> {
  const mayBeEarly = job.isFresh && job.lane === undefined && deps.quickTypes.has(job.type);
  if (!mayBeEarly) return runRecorded(deps, definition, job, place, logger);
  const run = performance.now() - job.takenAt < STATE_GOOD_MS ? openKept(deps, job) : undefined;
  if (!run) return open(deps, definition, job, place, logger);
  return runOpened(deps, definition, job, run, place, logger);
}

/** The state that came with the entry is too old, or says that the job is not simply to be run. */
async function open(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  job: JobToRun,
  place: Place,
  logger: () => Logger,
): Promise<JobOutcome> {
  const opened = await persistently(logger, place.drain.over, () => openRun(deps, job));
  if (opened?.kind !== 'recorded' || phaseOf(opened.run) === 'cancelled') return outcomeOf(opened);
  return runOpened(deps, definition, job, opened.run, place, logger);
}

function runOpened(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  job: JobToRun,
  run: JobRun,
  place: Place,
  logger: () => Logger,
): Promise<JobOutcome> {
  if (run.recovered || run.alone || run.spec.slots !== undefined) {
    return runRecorded(deps, definition, job, place, logger);
  }
  const person = personOf(definition, run.spec);
  const sealer = person === undefined ? PLAIN : deps.seals.ready(person);
  // Its key has to be asked for first.
  if (!sealer) return runRecorded(deps, definition, job, place, logger);
  return inSpan(job, run, deps.now(), () => runEarly(deps, definition, job, { run, sealer }, place, logger));
}

async function runEarly(
  deps: JobRunnerDeps,
  definition: JobDefinition,
  job: JobToRun,
  opened: { readonly run: JobRun; readonly sealer: Sealer },
  place: Place,
  logger: () => Logger,
): Promise<JobOutcome> {
  const { type } = job;
  const { sealer } = opened;
  const run = { ...opened.run, unrecorded: { worker: deps.worker, at: timeOf(deps, job) } };
  observeWait(deps, job);
  const early = beginEarly(definition, run, sealer, {
    whenLate: deps.quickTypes.whenLate,
    logger,
    metrics: deps.metrics,
  });
  const ending = await early.soon;
  if (!ending) return runRecorded(deps, definition, job, place, logger, early);
  place.giveBack.slot();
  deps.metrics.jobDuration.observe({ type }, (performance.now() - early.beganAt) / 1000);
  deps.quickTypes.note(type, true);
  const around = { signal: place.drain.over, toEnd: false, logger, sealer };
  const outcome = await conclude(deps, definition, run, performedOf(ending), around);
  if (outcome !== 'left' && outcome !== 'finished') deps.metrics.jobs.inc({ type, outcome });
  return outcome;
}

function performedOf(ending: Ending): Exclude<Performed, { kind: 'gone' }> {
  return ending.kind === 'failed' ? { ...ending, ignoredAbort: false } : ending;
}
