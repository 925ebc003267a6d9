import { projections } from '../features.ts';
import type { AnyProjection, AnyRow } from '../projections/projection.ts';

export type ReadModelName = keyof typeof projections;

/** Does the same with every projection, each with its own type of rows. One that is forgotten doesn't compile. */
export function forEachReadModel<T>(
  use: <R extends AnyRow>(projection: AnyProjection<R>) => T,
): Readonly<Record<ReadModelName, T>> {
  return {
    accounts: use(projections.accounts),
    jobs: use(projections.jobs),
    exports: use(projections.exports),
    schedules: use(projections.schedules),
    'dead-letters': use(projections['dead-letters']),
    operations: use(projections.operations),
    erasures: use(projections.erasures),
  };
}
