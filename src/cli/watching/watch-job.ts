import type { Base } from '../../app/base.ts';
import { openFollowing } from '../../app/following.ts';
import type { JobId } from '../../domain/ids.ts';
import { isFinal } from '../../http/jobs/live.ts';
import { rowAfter } from '../../projections/jobs/as-of.ts';
import { type JobView, view } from '../../projections/jobs/queries.ts';
import type { WriteSide } from '../installation.ts';
import { noSuchJob } from '../job-id.ts';
import { errorText } from '../output/errors.ts';
import { printable, type Terminal } from '../output/table.ts';
import { detailOf, eventOf } from './events.ts';
import { progressLine } from './progress.ts';

/** How often a bar is drawn while nothing happens: its clock goes on. */
const REDRAW_MS = 1_000;

/**
 * Follows a job on standard output until it ends: a bar on a terminal, lines elsewhere, or events as JSON. Answers the
 * job as it ended. Throws `RefusedError` where there is none.
 */
export async function watchJob(options: {
  readonly side: WriteSide;
  readonly base: Base;
  readonly id: JobId;
  readonly json: boolean;
}): Promise<JobView> {
  const { side, base, id, json } = options;
  const terminal: Terminal = process.stdout;
  const draws = terminal.isTTY === true && !json;
  const following = openFollowing(base, side, 'cli');
  const controller = new AbortController();
  let row: Parameters<typeof view>[0] | undefined;
  try {
    const steps = following.follow(id, {
      after: 0,
      idleMs: REDRAW_MS,
      signal: controller.signal,
      onOverflow: () => controller.abort(),
    });
    for await (const step of steps) {
      if (step.kind === 'resync') row = undefined;
      for (const event of step.kind === 'events' ? step.events : []) {
        row = rowAfter(row, event);
        if (draws) continue;
        const shown = await side.opened(row.owner ?? undefined, eventOf(event));
        console.log(json ? JSON.stringify(shown) : lineOf(shown));
      }
      if (!row) {
        if (step.kind === 'events' && step.caughtUp) throw noSuchJob(id);
        continue;
      }
      const job = view(row);
      const last = step.kind === 'events' ? step.events.at(-1) : undefined;
      const ended = step.kind === 'events' && step.caughtUp && last !== undefined && isFinal(last);
      if (draws) terminal.write(`\r\x1b[K${progressLine(job, terminal, Date.now())}${ended ? '\n' : ''}`);
      if (ended) return await side.opened(job.owner, job);
    }
    throw new Error('The job could not be followed to its end.');
  } finally {
    controller.abort();
    following.close();
  }
}

/** Throws where the job did not succeed: then the process leaves with 1. */
export function expectSuccess(job: JobView): void {
  if (job.status === 'succeeded') return;
  const why = job.error === undefined ? '' : `: ${printable(errorText(job.error))}`;
  throw new Error(`${job.id} ${job.status === 'cancelled' ? 'was cancelled' : 'failed'}${why}`);
}

function lineOf(event: ReturnType<typeof eventOf>): string {
  const detail = detailOf(event);
  return printable(`${event.time}  ${event.type}${detail ? `  ${detail}` : ''}`);
}
