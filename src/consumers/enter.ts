import type { JobRun } from '../commands/jobs/record.ts';
import { type JobDeps, putBack } from '../commands/jobs/taken.ts';
import { partitionOf } from '../domain/ids.ts';
import type { Logger } from '../telemetry/logging.ts';
import type { Concurrency, HeldSlot } from './concurrency.ts';
import { persistently } from './persistently.ts';
import type { JobToRun } from './take.ts';

/**
 * How long a job sleeps that waits for a slot, for each that waits before it. Who is granted one is woken: this is for
 * slots that ran out with their process, which nobody gives back; so the first look often, and those far behind hardly.
 */
const LOOK_EVERY_MS = 5_000;
const LOOK_AT_LEAST_EVERY_MS = 300_000;

/**
 * A slot of the job's concurrency limit. Where there is none its work entry goes back behind a timer, and the job into
 * the line: it takes up no place here, and keeps its ordering key.
 */
export async function enter(
  deps: JobDeps & {
    readonly concurrency: Concurrency;
    readonly onTimer: (partition: number, dueAt: number) => void;
  },
  job: JobToRun,
  { spec }: JobRun,
  around: { readonly signal: AbortSignal; readonly logger: Logger },
): Promise<HeldSlot | 'waiting' | 'left' | undefined> {
  const { slots, concurrencyLimit = 1 } = spec;
  if (slots === undefined) return undefined;
  const limit = { name: slots, most: concurrencyLimit };
  const { signal, logger } = around;
  const taken = await persistently(
    () => logger,
    signal,
    () => deps.concurrency.take(limit, job.jobId),
  );
  if (!taken || 'release' in taken) return taken ?? 'left';

  const sleep = Math.min(LOOK_EVERY_MS * (taken.ahead + 1), LOOK_AT_LEAST_EVERY_MS);
  const wakeAt = new Date(deps.now().getTime() + sleep);
  const back = await persistently(
    () => logger,
    signal,
    () => putBack(deps, job, wakeAt),
  );
  if (back !== 'put_back') return 'left';
  deps.onTimer(partitionOf(job.jobId), wakeAt.getTime());
  // Only now: who is granted a slot has a timer by which it is woken.
  await deps.concurrency.enlist(limit, job.jobId).catch((err: unknown) => {
    logger.debug({ err }, 'a job could not line up for a slot: it looks again when its timer is due');
  });
  return 'waiting';
}
