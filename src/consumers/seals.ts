import { PLAIN, type Sealer } from '../domain/jobs/personal.ts';
import type { JobDefinition } from './define-job.ts';

/** Opens what jobs are given, and seals what they come to, each with the key of the person whose job it is. */
export type Seals = {
  /** At once; undefined: the key has to be asked for. */
  ready(owner: string): Sealer | undefined;
  /**
   * `erased`: the person was. `missing`: there is no key, and nobody was erased, which is a fault. Throws while Postgres can't
   * be asked.
   */
  load(owner: string): Promise<Sealer | 'erased' | 'missing'>;
};

/** Nothing is sealed, and what is sealed stays so: for who has no people. */
export const NO_SEALS: Seals = { ready: () => PLAIN, load: async () => PLAIN };

/** Whose key is needed for a job; undefined: nobody's. */
export function personOf(
  { personal }: Pick<JobDefinition, 'personal'>,
  { owner }: { readonly owner?: string },
): string | undefined {
  return personal === false ? undefined : owner;
}
