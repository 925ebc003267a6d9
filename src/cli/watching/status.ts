import type { JobView } from '../../projections/jobs/queries.ts';
import type { JobStatus } from '../../projections/run.ts';
import type { Style } from '../output/table.ts';

const COLOURS: Partial<Record<JobStatus, Style>> = {
  running: 'cyan',
  retrying: 'yellow',
  succeeded: 'green',
  failed: 'red',
  cancelled: 'dim',
};

export function statusColour({ status }: Pick<JobView, 'status'>): Style | undefined {
  return COLOURS[status];
}

export function statusText({ status, parked, discarded }: JobView): string {
  return parked ? `${status}, parked` : discarded ? `${status}, discarded` : status;
}
