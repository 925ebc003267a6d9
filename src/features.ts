import { exportJob } from './consumers/exports.ts';
import { accountRoutes } from './http/accounts.ts';
import { exportRoutes } from './http/exports.ts';
import { jobRoutes } from './http/jobs.ts';
import { sessionRoutes } from './http/sessions.ts';
import { projection as accounts } from './projections/accounts.ts';
import { projection as exports } from './projections/exports.ts';
import { projection as jobs } from './projections/jobs.ts';

/** Table of contents: what each feature adds to each role. */
export const features = {
  accounts: { routes: accountRoutes, projection: accounts },
  sessions: { routes: sessionRoutes },
  jobs: { routes: jobRoutes, projection: jobs },
  exports: { routes: exportRoutes, projection: exports, job: exportJob },
} as const;

/** Read models that this code writes and reads. */
export const projections = { accounts, jobs, exports } as const;
