import { settlingJobs } from './consumers/dead-letters.ts';
import { echoJob } from './consumers/echo.ts';
import { emailJob } from './consumers/emails.ts';
import { eraseJob } from './consumers/erasures.ts';
import { exportJob } from './consumers/exports.ts';
import { httpRequestJob } from './consumers/http-request/job.ts';
import { replayJob } from './consumers/replay/job.ts';
import { verificationJob } from './consumers/verifications.ts';
import { settlingJobTypes } from './domain/dead-letters.ts';
import type { Destination } from './domain/destinations.ts';
import { emailsBy, type Sender } from './domain/emails.ts';
import { eraseJobType } from './domain/erasures.ts';
import { exportJobType } from './domain/exports.ts';
import { httpRequestsTo } from './domain/http-requests.ts';
import { replayJobType } from './domain/replays.ts';
import { verificationJobType } from './domain/verifications.ts';
import { accountRoutes } from './http/accounts.ts';
import { deadLetterRoutes } from './http/dead-letters.ts';
import { erasureRoutes } from './http/erasures.ts';
import { eventRoutes } from './http/events/routes.ts';
import { exportRoutes } from './http/exports.ts';
import { groupRoutes } from './http/groups.ts';
import { jobRoutes } from './http/jobs/routes.ts';
import { operationRoutes } from './http/operations.ts';
import { queueRoutes } from './http/queues.ts';
import { rebuildRoutes } from './http/rebuilds.ts';
import { replayRoutes } from './http/replay.ts';
import { scheduleRoutes } from './http/schedules.ts';
import { sessionRoutes } from './http/sessions.ts';
import { standingRoutes } from './http/standing/routes.ts';
import { verificationRoutes } from './http/verifications.ts';
import { webhookRoutes } from './http/webhooks.ts';
import { projection as accounts } from './projections/accounts.ts';
import { projection as deadLetters } from './projections/dead-letters/table.ts';
import { projection as erasures } from './projections/erasures.ts';
import { projection as exports } from './projections/exports.ts';
import { projection as jobs } from './projections/jobs/table.ts';
import { projection as operations } from './projections/operations/table.ts';
import { projection as schedules } from './projections/schedules.ts';

/** Table of contents: what each feature adds to each role. */
export const features = {
  accounts: { routes: accountRoutes, projection: accounts },
  sessions: { routes: sessionRoutes },
  erasures: { routes: erasureRoutes, projection: erasures, job: eraseJob },
  jobs: { routes: jobRoutes, projection: jobs },
  'dead-letters': { routes: deadLetterRoutes, projection: deadLetters, jobs: settlingJobs },
  queues: { routes: queueRoutes },
  groups: { routes: groupRoutes },
  rebuilds: { routes: rebuildRoutes },
  verifications: { routes: verificationRoutes, job: verificationJob },
  replay: { routes: replayRoutes, job: replayJob },
  exports: { routes: exportRoutes, projection: exports, job: exportJob },
  schedules: { routes: scheduleRoutes, projection: schedules },
  webhooks: { routes: webhookRoutes, job: httpRequestJob },
  emails: { job: emailJob },
  standing: { routes: standingRoutes },
  events: { routes: eventRoutes },
  operations: { routes: operationRoutes, projection: operations },
} as const;

/** Jobs that need nothing but their payload. One that needs more is made in `app/jobs.ts`. */
export const plainJobs = [echoJob] as const;

/** Types of jobs that this code knows: what requests are checked against. */
export const jobTypes = [
  exportJobType,
  eraseJobType,
  ...Object.values(settlingJobTypes),
  replayJobType,
  verificationJobType,
  ...plainJobs,
] as const;

type Settings = {
  readonly HTTP_REQUEST_ALLOW: readonly Destination[];
  readonly SMTP_URL: string;
  readonly EMAIL_FROM: Sender | undefined;
  readonly EMAIL_SENDERS: readonly string[];
  readonly EMAIL_RECIPIENTS: readonly string[];
};

/** Types of jobs that say who may do what by the installation's settings. */
export const configuredJobTypes = (settings: Settings) => [
  httpRequestsTo(settings.HTTP_REQUEST_ALLOW),
  emailsBy(emailRules(settings)),
];

export const emailRules = (settings: Settings) => ({
  from: settings.SMTP_URL === '' ? undefined : settings.EMAIL_FROM,
  senders: settings.EMAIL_SENDERS,
  recipients: settings.EMAIL_RECIPIENTS,
});

/** Read models that this code writes and reads. */
export const projections = {
  accounts,
  jobs,
  exports,
  schedules,
  'dead-letters': deadLetters,
  operations,
  erasures,
} as const;
