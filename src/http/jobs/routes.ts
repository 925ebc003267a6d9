import type { Routes } from '../types.ts';
import { type JobBatchDeps, jobBatchRoutes } from './batch.ts';
import { type JobChangeDeps, jobChangeRoutes } from './change.ts';
import { type JobHistoryDeps, jobHistoryRoutes } from './history.ts';
import { type JobReadDeps, jobReadRoutes } from './read.ts';

/** All of `/v1/jobs`. */
export function jobRoutes(deps: JobReadDeps & JobHistoryDeps & JobChangeDeps & JobBatchDeps): Routes {
  return (app) => {
    jobReadRoutes(deps)(app);
    jobHistoryRoutes(deps)(app);
    jobChangeRoutes(deps)(app);
    jobBatchRoutes(deps)(app);
  };
}
