import type { Routes } from '../types.ts';
import { type JobChangeDeps, jobChangeRoutes } from './change.ts';
import { type JobReadDeps, jobReadRoutes } from './read.ts';

/** All of `/v1/jobs`. */
export function jobRoutes(deps: JobReadDeps & JobChangeDeps): Routes {
  return (app) => {
    jobReadRoutes(deps)(app);
    jobChangeRoutes(deps)(app);
  };
}
