import type { CommandContext, CommandResult } from '../../commands/handle.ts';
import type { JobAccepted, JobCommandDeps, JobOf } from '../../commands/jobs/requests.ts';
import type { Decision } from '../../domain/decision.ts';
import type { JobEvent } from '../../domain/jobs/events.ts';
import { type Job, jobFold } from '../../domain/jobs/state.ts';
import { agreed, type ChangeOptions, contextOf, RefusedError, wouldWrite } from '../changes.ts';
import { type WriteSide, withInstallation } from '../installation.ts';
import { jobIdOf, noSuchJob } from './job-id.ts';

/** One way to change a job: the command that does it, and the decision behind it, which says what it would do. */
type Change = {
  /** As a sentence begins: `Cancel`. */
  readonly verb: string;
  readonly command: (
    deps: JobCommandDeps,
    context: CommandContext,
    input: JobOf,
  ) => Promise<CommandResult<JobAccepted>>;
  readonly decide: (job: Job, now: string) => Decision<JobEvent>;
};

/** What is printed for a job. */
type Changed =
  | { readonly id: string; readonly version: number; readonly status: string; readonly position: string }
  | { readonly id: string; readonly dryRun: true; readonly events: readonly string[] }
  | { readonly id: string; readonly error: { readonly code: string; readonly detail: string } };

/** `millrace jobs cancel`, `millrace jobs retry`: of some jobs, each with an outcome of its own. */
export function changeJobs(change: Change) {
  return async (ids: readonly string[], options: ChangeOptions): Promise<void> => {
    const many = ids.length === 1 ? ids[0] : `${ids.length} jobs`;
    await agreed(`${change.verb} ${many}?`, options);
    const refused = await withInstallation(async (side, { config }) => {
      const context = contextOf(config, options);
      let count = 0;
      for (const id of ids) {
        const changed = await outcomeOf(id, () =>
          options.dryRun ? dryRun(side, change, id) : carryOut(side, change, context, id),
        );
        if ('error' in changed) count++;
        print(changed, options);
      }
      return count;
    });
    if (refused > 0 && ids.length > 1) throw new Error(`${refused} of ${ids.length} jobs were refused.`);
    if (refused > 0) process.exitCode = 1;
  };
}

/** A refusal of one job does not keep the others from being changed. */
async function outcomeOf(id: string, change: () => Promise<Changed>): Promise<Changed> {
  try {
    return await change();
  } catch (error) {
    if (!(error instanceof RefusedError)) throw error;
    return { id, error: { code: error.code, detail: error.message } };
  }
}

async function carryOut(
  { commands }: WriteSide,
  { command }: Change,
  context: CommandContext,
  id: string,
): Promise<Changed> {
  const result = await command(commands, context, { jobId: jobIdOf(id) });
  if (result.kind === 'refused') throw new RefusedError(result.refusal.code, result.refusal.detail);
  if (result.kind !== 'done') throw new Error('This was done before.');
  return { ...result.body, position: result.position };
}

async function dryRun({ store }: WriteSide, { decide }: Change, id: string): Promise<Changed> {
  const jobId = jobIdOf(id);
  const { state, version } = await store.load(jobId, jobFold);
  if (version === 0) throw noSuchJob(id);
  return { id, dryRun: true, events: wouldWrite(decide(state, new Date().toISOString())) };
}

function print(changed: Changed, { json }: ChangeOptions): void {
  if (json) console.log(JSON.stringify(changed));
  else if ('error' in changed) console.error(`${changed.id}: ${changed.error.detail}`);
  else if ('dryRun' in changed) {
    console.log(`${changed.id}: would write ${changed.events.join(', ') || 'nothing, as it is so already'}`);
  } else console.log(`${changed.id}: ${changed.status}, version ${changed.version}`);
}
