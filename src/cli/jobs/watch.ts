import { withInstallation } from '../installation.ts';
import { jobIdOf } from '../job-id.ts';
import { expectSuccess, watchJob } from '../watching/watch-job.ts';

/** `millrace jobs watch` */
export function watchCommand(text: string, options: { readonly json?: boolean }): Promise<void> {
  const id = jobIdOf(text);
  return withInstallation(async (side, base) => {
    expectSuccess(await watchJob({ side, base, id, json: options.json ?? false }));
  });
}
