import { cancelJob, type JobAccepted, retryJob } from '../../commands/jobs/requests.ts';
import type { Decision } from '../../domain/decision.ts';
import type { JobEvent } from '../../domain/jobs/events.ts';
import { cancelJob as decideCancel, retryJob as decideRetry } from '../../domain/jobs/requests.ts';
import { type Job, jobFold } from '../../domain/jobs/state.ts';
import type { Change } from '../change-each.ts';
import type { WriteSide } from '../installation.ts';
import { jobIdOf, noSuchJob } from '../job-id.ts';

const say = ({ status, version }: JobAccepted) => `${status}, version ${version}`;

export const cancelling: Change<JobAccepted> = {
  verb: 'Cancel',
  plural: 'jobs',
  carryOut: async ({ commands }, context, id) => cancelJob(commands, context, { jobId: jobIdOf(id) }),
  foresee: (side, id) => decided(side, id, (job) => decideCancel(job)),
  say,
};

export const retrying: Change<JobAccepted> = {
  verb: 'Retry',
  plural: 'jobs',
  carryOut: async ({ commands }, context, id) => retryJob(commands, context, { jobId: jobIdOf(id) }),
  foresee: (side, id) => decided(side, id, (job) => decideRetry(job, new Date().toISOString())),
  say,
};

async function decided(
  { store }: WriteSide,
  id: string,
  decide: (job: Job) => Decision<JobEvent>,
): Promise<Decision<JobEvent>> {
  const { state, version } = await store.load(jobIdOf(id), jobFold);
  if (version === 0) throw noSuchJob(id);
  return decide(state);
}
